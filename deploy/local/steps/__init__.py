"""The story, a step per file. Each waits for events with a deadline and leaves proofs.

setup; a: enrolled, first_model; b, c: second_model (with the control plane's kill of e, and i's lies about a new bundle);
d: traced; e: killed; h: bad_model; i: lies; j: cloud_away; g: measured; f: ledgers; picture: drawn
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from deploy.local.steps import (
    bad_model,
    cloud_away,
    drawn,
    enrolled,
    first_model,
    killed,
    ledgers,
    lies,
    lies_of_the_director,
    measured,
    second_model,
    setup,
    traced,
)
from deploy.local.story import Story

Step = Callable[[Story], Awaitable[None]]

STORY: tuple[Step, ...] = (
    setup.run, enrolled.run, first_model.run, second_model.run, traced.run, killed.run, bad_model.run,
    lies_of_the_director.run, lies.run, cloud_away.run, measured.run, ledgers.run,
)  # fmt: skip
PICTURE: tuple[Step, ...] = (drawn.run,)
TRY_IT: tuple[Step, ...] = (setup.run, enrolled.run, first_model.run)
