"""From a trained version to a signed release: registration, alias, build, a person's approval, the signer."""

from __future__ import annotations

from pathlib import Path

from deploy.local.story import Story, want

STEP = {1: "a", 2: "b", 3: "h"}  # of the story, in which a version comes
TRAIN_S, REGISTER_S, BUILD_S, APPROVE_S = 120, 60, 180, 60


def folder(story: Story, version: int) -> Path:
    return story.site.person("trainer") / f"v{version}"


async def train(story: Story, version: int) -> None:
    """In the trainer's own folder, with the trainer's own signing key."""
    key = story.site.keys / "trainer/model-signing.pem"
    await story.trainer("train", "--recipe", str(story.recipes[version]), "--out", str(folder(story, version)), "--key", str(key))


async def register(story: Story, version: int) -> None:
    async with story.proving(STEP[version], f"v{version} registered", REGISTER_S, ["control"]) as proof:
        since = story.feed.last
        token = str(story.site.token("trainer"))
        await story.trainer(
            "register", "--folder", str(folder(story, version)), "--token-file", token, "--url", story.site.url, "--name", story.example
        )
        event = await story.operators_event(proof, lambda event: event.event == "model_registered", since)
        want(event.subject == f"model:{story.example}/{version}", "the registry numbers versions", event)
        proof.figures.update(version=event.subject, run=event.data["run"], data=event.data["data"].rpartition(":")[2])


async def release(story: Story, version: int) -> None:
    """Move the alias; wait for the build; approve as the approver; wait for the signature."""
    step, since = STEP[version], story.feed.last
    async with story.proving(step, f"alias candidate -> v{version}, bundle built", BUILD_S, ["control", "build"]) as proof:
        await story.skerry("operator", "model", "alias", story.example, "candidate", str(version))
        built = await story.operators_event(proof, lambda event: event.event in ("release_built", "release_failed"), since)
        want(built.event == "release_built", "the build succeeds", built.data)
        story.releases[version] = built.subject
        view = await story.api.get(f"/v1/releases/{built.subject}")
        proof.figures.update(release=built.subject, bundles=view["release"]["manifests"])
    async with story.proving(step, f"{story.releases[version]} approved by a person, signed", APPROVE_S, ["control", "signer"]) as proof:
        key = str(story.site.keys / "approver/approver.pem")
        await story.skerry("approver", "release", "approve", story.releases[version], "--key", key)
        signed = await story.operators_event(proof, lambda event: event.event in ("release_signed", "release_failed"), since)
        want(signed.event == "release_signed", "the signer accepts it", signed.data)
