"""Each hop of a trace is read from its own store; a hop that is missing or says something else is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.errors import RejectedError
from contracts.operator import Trace
from control_plane.services.trace import Tracing, published_target
from tests.simulators.release_desk import NAME, PROFILE, ReleaseDesk

RELEASE = f"{NAME}-1"
TARGET = f"bundles/{PROFILE}/{RELEASE}.json"


def publish(folder: Path, targets: dict[str, str], version: int = 1, profile: str = PROFILE) -> None:
    """A profile role's metadata as the signer would leave them, without signatures: the devices check those."""
    folder.mkdir(exist_ok=True)
    described = {path: {"length": 1, "hashes": {"sha256": digest}} for path, digest in targets.items()}
    (folder / f"{version}.profile-{profile}.json").write_text(json.dumps({"signed": {"targets": described}, "signatures": []}))


class Site:
    def __init__(self, folder: Path) -> None:
        self.desk, self.image = ReleaseDesk(folder), folder / "image"
        self.bundle = self.desk.release(self.desk.signed_release()).manifests[PROFILE]
        publish(self.image, {TARGET: self.bundle})

    def trace(self, bundle: str | None = None) -> Trace:
        return Tracing(self.desk.blobs, self.desk.registry, self.image).trace(bundle or self.bundle)

    def holes(self) -> list[str]:
        """Names of the hops that do not hold."""
        trace = self.trace()
        assert trace.complete == all(hop["ok"] for hop in trace.hops)
        return [hop["hop"] for hop in trace.hops if not hop["ok"]]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.desk.close()


def test_a_released_bundle_is_traced_to_its_data(site: Site) -> None:
    trace = site.trace()
    assert trace.complete
    assert (trace.target, trace.data) == (TARGET, f"dataset:sha256:{'1' * 64}")
    assert trace.model_version is not None
    assert (trace.model_version.id, trace.run) == (f"model:{NAME}/1", trace.model_version.run)
    assert {hop["store"] for hop in trace.hops} == {"image repository", "blob store", "model registry", "model registry's run"}


def test_not_in_the_image_repository(site: Site) -> None:
    publish(site.image, {TARGET: "0" * 64}, version=2)
    assert site.holes() == ["image", "manifest"]


def test_under_another_name_in_the_image_repository(site: Site) -> None:
    publish(site.image, {f"bundles/{PROFILE}/other-1.json": site.bundle})
    assert site.holes() == ["manifest"]


def test_a_manifest_whose_bytes_were_changed(site: Site) -> None:
    path = site.desk.blobs.path(site.bundle)
    path.write_bytes(path.read_bytes().replace(b'"number":1', b'"number":2'))
    assert site.holes() == ["manifest", "model", "run"]


def test_a_manifest_that_is_gone(site: Site) -> None:
    site.desk.blobs.path(site.bundle).unlink()
    assert site.holes() == ["manifest", "model", "run"]


def test_a_run_that_was_fed_other_data(site: Site) -> None:
    site.desk.registry.forge_data(site.desk.registry.version(NAME, 1).run, f"dataset:sha256:{'9' * 64}")
    assert site.holes() == ["run"]


def test_a_model_version_of_another_run(site: Site) -> None:
    site.desk.registry.forge_run(NAME, 1, site.desk.register("2").run)
    assert site.holes() == ["model", "run"]


def test_an_unknown_digest_has_no_hop(site: Site) -> None:
    assert [hop["ok"] for hop in site.trace("0" * 64).hops] == [False] * 4


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "A" * 64])
def test_what_is_no_digest_is_refused(site: Site, digest: str) -> None:
    tracing = Tracing(site.desk.blobs, site.desk.registry, site.image)
    with pytest.raises(RejectedError, match="API_NOT_FOUND"):
        tracing.trace(digest)


def test_the_newest_metadata_of_each_profile_count(tmp_path: Path) -> None:
    for version, digest in ((9, "9" * 64), (10, "a" * 64)):
        publish(tmp_path, {TARGET: digest}, version)
    publish(tmp_path, {"bundles/other/x-1.json": "b" * 64}, 2, "other")
    assert published_target(tmp_path, "a" * 64) == TARGET
    assert published_target(tmp_path, "b" * 64) == "bundles/other/x-1.json"
    assert published_target(tmp_path, "9" * 64) is None
