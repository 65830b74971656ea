"""What a bundle's own papers prove, checked the same way by signer and device.

The training side signs the fp32 model; the device gets quantized members. The link is the provenance: it names the fp32
digest among its materials and the members as its subjects. The signer verifies the builder's signature on it by pinned key;
the device, which pins no builder, takes the provenance from a TUF-verified manifest and so from the same signer.
Two people's keys stand behind each bundle: the training side's (model.sig) and the release's (TUF).
"""

from __future__ import annotations

from collections.abc import Mapping

from contracts.errors import error
from contracts.manifest import PROVENANCE
from signatures import model_signature, provenance
from signatures.model_signature import SIGNED_FILE


def check_bundle(members: Mapping[str, str], model_sig: bytes, provenance_member: bytes, model_keys: Mapping[str, str]) -> None:
    """TrustError BUNDLE_MODEL_SIGNATURE unless model.sig is by a pinned key over the fp32 model that these members were made from.

    `members`: name -> sha256 of all members, as the verified manifest has them; `model_keys`: key id -> PEM (the pins).
    """
    try:
        papers = provenance.read_authentic(provenance_member)
    except ValueError as broken:
        raise error("BUNDLE_MODEL_SIGNATURE", PROVENANCE, str(broken)) from broken
    check_papers(papers, members, model_sig, model_keys)


def check_papers(papers: provenance.Provenance, members: Mapping[str, str], model_sig: bytes, model_keys: Mapping[str, str]) -> None:
    """The same for a provenance that was read already."""
    others = {name: digest for name, digest in members.items() if name != PROVENANCE}
    named = {name: digest for name, digest in papers.subjects.items() if name != provenance.MANIFEST_SUBJECT}
    if named != others:
        odd = sorted(str(name) for name in {*named, *others} if named.get(name) != others.get(name))
        raise error("BUNDLE_MODEL_SIGNATURE", PROVENANCE, f"names other members: {', '.join(odd)}")
    if SIGNED_FILE not in papers.materials:
        raise error("BUNDLE_MODEL_SIGNATURE", PROVENANCE, "names no fp32 model")
    model_signature.verify(model_sig, {SIGNED_FILE: papers.materials[SIGNED_FILE]}, model_keys)
