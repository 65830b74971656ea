"""h: a bad model is stopped by how it does. Nobody tells the control plane that v3 is bad; its manifest is true, its build succeeds.

Beside the incumbent first, where two gates stop it before it answers anything; then the same release once more without a shadow,
so that it goes live on one device and that device has to come back.
"""

from __future__ import annotations

from deploy.local.steps import bad_in_shadow, bad_live, released, unseen
from deploy.local.story import Story


async def run(story: Story) -> None:
    async with story.proving("h", "v3 trained meanwhile", released.TRAIN_S):
        await story.training
    await released.register(story, 3)
    await released.release(story, 3)
    orders = await unseen.orders(story)
    exposed = await bad_in_shadow.run(story)
    await bad_live.run(story, exposed)
    await unseen.run(story, exposed, orders)
