"""Exit codes of `skerry`; docs/reference/exit-codes.md explains them."""

from __future__ import annotations

OK = 0
FAILED = 1  # refused, or the answer is "no": a trace with a hole, a campaign that did not succeed
USAGE = 2
NOT_YET = 4  # nobody answers, or what was waited for did not come in time: try again
