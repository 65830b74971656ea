"""From a trainer's folder to a traced, signed release: control plane, builder and signer as processes, the CLI in front."""

from __future__ import annotations

import json
import shlex
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from control_plane.cli import exits
from control_plane.cli.main import run
from examples.digits_line.__main__ import main as trainer
from tests.integration.release_site import MODEL, PROFILE, ReleaseSite

BUILD_S = 90
Skerry = Callable[..., Any]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReleaseSite]:
    site = ReleaseSite(tmp_path_factory.mktemp("line"))
    try:
        site.start_signer()
        site.start_control()
        site.start_build()
        yield site
        assert site.stop() == {"signer": 0, "control": 0, "build": 0}
    finally:
        site.stop()


@pytest.fixture
def skerry(site: ReleaseSite, capsys: pytest.CaptureFixture[str]) -> Skerry:
    """`skerry("release list")` -> its JSON, after it ended with `code`."""

    def skerry(line: str, code: int = exits.OK) -> Any:
        capsys.readouterr()
        ended = run([*shlex.split(line), "--json", "--url", site.url, "--token-file", str(site.token_file)])
        out, err = capsys.readouterr()
        assert ended == code, err + site.log("control")
        return json.loads(out) if out else err

    return skerry


def registered(site: ReleaseSite, seed: str, capsys: pytest.CaptureFixture[str]) -> int:
    """Registers the small model by the example's own command; the version that it prints."""
    folder = site.folder / f"trained-{seed}"
    if not folder.exists():
        site.training_output(seed)
    common = ["--folder", str(folder), "--name", MODEL, "--url", site.url, "--token-file", str(site.token_file)]
    assert trainer(["register", *common]) == 0
    return int(capsys.readouterr().out.strip().rpartition("/")[2])


def built(site: ReleaseSite, skerry: Skerry, seed: str, capsys: pytest.CaptureFixture[str]) -> str:
    """A release in state BUILT of a fresh model version; its id."""
    version = registered(site, seed, capsys)
    skerry(f"model alias {MODEL} candidate {version}")
    release = skerry("release list")[0]["id"]
    found = skerry(f"release show {release} --wait BUILT --timeout-s {BUILD_S}")
    assert found["state"] == "BUILT", site.log("build")
    return str(release)


def approve(site: ReleaseSite, skerry: Skerry, release: str) -> Any:
    return skerry(f"release approve {release} --key {site.site.folder / 'approver/approver.pem'}")


def test_a_model_becomes_a_signed_release_that_can_be_traced(site: ReleaseSite, skerry: Skerry, capsys: pytest.CaptureFixture[str]) -> None:
    release = built(site, skerry, "1", capsys)
    assert registered(site, "1", capsys) == 1, "registering again is the same version"
    stranger = skerry(f"release approve {release} --key {site.site.folder / 'build/keys/builder.pem'}", code=exits.FAILED)
    assert json.loads(stranger)["code"] == "SIGNER_APPROVAL"
    assert skerry(f"release show {release}")["state"] == "BUILT"
    assert approve(site, skerry, release)["state"] == "SIGNED"
    bundle = skerry(f"release show {release}")["release"]["manifests"][PROFILE]
    trace = skerry(f"trace {bundle}")
    assert trace["complete"]
    assert trace["target"] == f"bundles/{PROFILE}/{release}.json"
    assert trace["data"] == f"dataset:sha256:{'1' * 64}"
    assert [hop["hop"] for hop in trace["hops"]] == ["image", "manifest", "model", "run"]

    plant(site.registry_file, "1" * 64, "9" * 64)
    trace = skerry(f"trace {bundle}", code=exits.FAILED)
    assert [(hop["hop"], hop["ok"]) for hop in trace["hops"]] == [("image", True), ("manifest", True), ("model", True), ("run", False)]


def plant(database: Path, digest: str, other: str) -> None:
    """Write another data set into the registry's own file, as somebody with access to it would."""
    with sqlite3.connect(database) as connection:
        changed = connection.execute("UPDATE datasets SET dataset_source = replace(dataset_source, ?, ?)", (digest, other))
        assert changed.rowcount
    connection.close()


def test_a_digest_that_was_never_published_has_no_trace(skerry: Skerry) -> None:
    trace = skerry(f"trace {'0' * 64}", code=exits.FAILED)
    assert not trace["complete"]
    assert not any(hop["ok"] for hop in trace["hops"])


def test_killed_programs_go_on_where_they_were(site: ReleaseSite, skerry: Skerry, capsys: pytest.CaptureFixture[str]) -> None:
    """Control plane and builder die while a build is under way, the signer before it is asked; nothing is lost."""
    version = registered(site, "2", capsys)
    skerry(f"model alias {MODEL} candidate {version}")
    release = skerry("release list")[0]["id"]
    for name in ("control", "build", "signer"):
        site.kill(name)
    site.start_control()
    site.start_build()
    assert skerry(f"release show {release} --wait BUILT --timeout-s {BUILD_S}")["state"] == "BUILT", site.log("build")
    assert skerry(f"model show {MODEL}")["aliases"] == {"candidate": version}

    waiting = approve(site, skerry, release)
    assert (waiting["state"], waiting["code"]) == ("APPROVED", "SIGNER_UNREACHABLE")
    site.start_signer()
    assert skerry(f"release show {release} --wait SIGNED --timeout-s 60")["state"] == "SIGNED"


def test_the_site_answers_every_other_question_of_the_cli(skerry: Skerry, capsys: pytest.CaptureFixture[str]) -> None:
    assert skerry("enrol token --hold")["token"].startswith("skt1.")
    assert skerry("device list") == []
    assert skerry("campaign list") == []
    assert {key["name"].partition("/")[0] for key in skerry("keys status")} >= {"image"}
    assert skerry("status")
    assert json.loads(skerry("device show dev-abcdefghijklmnopqrstuvwxyz", code=exits.FAILED))["code"] == "API_NOT_FOUND"
    assert json.loads(skerry("campaign show none", code=exits.FAILED))["code"] == "CAMPAIGN_UNKNOWN"
    capsys.readouterr()
