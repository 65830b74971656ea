"""Which requests a candidate answers in place of the live model. Pure."""

from __future__ import annotations

from hashlib import blake2b

_ALL = 1 << 64


def chosen(request_id: str, candidate: str, share: float) -> bool:
    """Whether an id is among the `share` of all ids that `candidate` (a digest) answers.

    The same id always goes the same way, a larger share keeps what a smaller one had, another candidate draws other ids. A request
    without an id stays with the live model: nobody could say which way its next one goes.
    """
    if not request_id or share <= 0:
        return False
    drawn = blake2b(request_id.encode(errors="surrogatepass"), digest_size=8, key=candidate.encode()[:64]).digest()
    return int.from_bytes(drawn, "big") < share * _ALL
