"""`skerry` against an operators' API over real HTTP: every example of its help, its exit codes, its pictures, its imports."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from contracts.canonical import CONTEXT_APPROVAL, canonical_json
from contracts.errors import SkerryError
from contracts.operator import CampaignRequest, GateMetric
from contracts.release import Approval
from control_plane.cli import campaign_picture, campaign_request, exits
from control_plane.cli.main import app, run
from signatures.ed25519 import SigningKey, verify
from tests.simulators.operators_api import BUNDLE, DEVICE, RELEASE, TOKEN, OperatorsApi, served

BARRED = ("fastapi", "mlflow", "sqlalchemy", "tuf", "deltalake", "numpy", "uvicorn", "pyarrow", "onnxruntime")
HELP_WITHIN_S = 3.0  # of CPU time: 0.2 on a quiet machine; scikit-learn or MLflow alone would cost more
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def api() -> Iterator[OperatorsApi]:
    with served() as api:
        yield api


@pytest.fixture
def skerry(api: OperatorsApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """`skerry("model list")` -> (exit code, stdout, stderr); the files that examples name lie in tmp_path."""
    (tmp_path / "token").write_text(TOKEN + "\n")
    (tmp_path / "campaign.toml").write_text('name = "first"\nrelease = "digits_line-1"\n[[waves]]\nsize = 1\n')
    key = Ed25519PrivateKey.from_private_bytes(b"a" * 32)
    (tmp_path / "approver.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    def skerry(line: str, url: str = api.url, token_file: str = "token") -> tuple[int, str, str]:
        words = [str(tmp_path / word) if word in ("campaign.toml", "approver.pem") else word for word in shlex.split(line)]
        code = run([*words, "--url", url, "--token-file", str(tmp_path / token_file)])
        return code, *capsys.readouterr()

    return skerry


def commands() -> Iterator[tuple[str, str]]:
    """(command line, help text) of every command."""
    for found in app.registered_commands:
        yield str(found.name), str(found.callback.__doc__)
    for group in app.registered_groups:
        assert group.typer_instance is not None
        for found in group.typer_instance.registered_commands:
            yield f"{group.name} {found.name}", str(found.callback.__doc__)


def examples() -> list[str]:
    return [line.strip().removeprefix("$ skerry ") for _, text in commands() for line in text.splitlines() if "$ skerry " in line]


# -- the help is true


def ended(api: OperatorsApi) -> None:
    """The campaign of the examples is over, so that the one with --watch ends."""
    api.campaign = api.campaign.model_copy(update={"state": "SUCCEEDED"})


@pytest.mark.parametrize("line", examples())
def test_every_example_of_the_help_runs(skerry: Run, api: OperatorsApi, line: str) -> None:
    ended(api)
    code, out, err = skerry(line)
    assert (code, err) == (exits.OK, "")
    assert out.strip()


@pytest.mark.parametrize("line", examples())
def test_json_is_the_apis_own(skerry: Run, api: OperatorsApi, line: str) -> None:
    ended(api)
    code, out, err = skerry(f"{line} --json")
    assert (code, err) == (exits.OK, "")
    parsed = [json.loads(part) for part in out.splitlines()] if line.startswith("events") else json.loads(out)
    method, path, body = api.requests[-1]
    answer = api.answers.get(f"{method} {path}")
    assert parsed == (answer(body) if callable(answer) else answer) or path == "/v1/events"


def test_every_command_has_an_example_and_help_for_each_option() -> None:
    for name, text in commands():
        assert f"$ skerry {name}" in text, name
    for command in _click_commands(typer.main.get_command(app)):
        for parameter in command.params:
            assert getattr(parameter, "help", None) or parameter.name == "help", f"{command.name} {parameter.name}"


def _click_commands(command: Any) -> Iterator[Any]:
    for found in getattr(command, "commands", {}).values():
        yield from _click_commands(found)
    if not getattr(command, "commands", None):
        yield command


# -- exit codes and errors


def test_a_refusal_is_printed_with_code_and_remedy(skerry: Run) -> None:
    code, out, err = skerry("release show nothing-1")
    assert (code, out) == (exits.FAILED, "")
    assert err.startswith("skerry: API_NOT_FOUND: ")
    assert "remedy: check the id" in err


def test_wrong_usage_is_2(skerry: Run) -> None:
    assert skerry("model shew digits_line")[0] == exits.USAGE
    assert skerry("model alias digits_line candidate none")[0] == exits.USAGE


def test_nobody_answering_is_4(skerry: Run) -> None:
    code, _, err = skerry("status", url="http://127.0.0.1:1")
    assert (code, err.split(": ")[1]) == (exits.NOT_YET, "API_UNREACHABLE")


def test_something_else_answering_is_4(skerry: Run, api: OperatorsApi) -> None:
    api.answers["GET /v1/status"] = None
    assert skerry("status", url=api.url + "/elsewhere")[0] == exits.FAILED


def test_a_wrong_token_is_refused(skerry: Run, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("other")
    code, _, err = skerry("status", token_file="other")
    assert (code, err.split(": ")[1]) == (exits.FAILED, "API_UNAUTHENTICATED")


@pytest.mark.parametrize("content", ["two words", "", "a\nb", "\u00e4"])
def test_a_file_that_is_no_token_is_never_repeated(skerry: Run, tmp_path: Path, content: str) -> None:
    (tmp_path / "strange").write_text(content)
    code, _, err = skerry("status", token_file="strange")
    assert (code, err.split(": ")[1]) == (exits.FAILED, "CONFIG_INVALID")
    assert not content or content not in err


def test_a_missing_token_file_says_which(skerry: Run) -> None:
    code, _, err = skerry("status", token_file="absent")
    assert (code, err.split(": ")[1]) == (exits.FAILED, "CONFIG_MISSING")
    assert "--token-file" in err


def test_a_trace_with_a_hole_fails_and_says_where(skerry: Run, api: OperatorsApi) -> None:
    hole = {"hop": "run", "store": "model registry's run", "id": "", "ok": False, "detail": "the registry has no such run"}
    api.answers[f"GET /v1/trace/{BUNDLE}"] = api.trace(complete=False, hops=(hole,))
    code, out, _ = skerry(f"trace {BUNDLE}")
    assert code == exits.FAILED
    assert "NOT complete" in out
    assert "the registry has no such run" in out


def test_overdue_keys_fail(skerry: Run, api: OperatorsApi) -> None:
    api.answers["GET /v1/keys"][0]["overdue"] = True
    assert skerry("keys status")[0] == exits.FAILED


# -- approving


def test_approve_signs_the_release_with_the_persons_key(skerry: Run, api: OperatorsApi) -> None:
    skerry("release approve digits_line-1 --key approver.pem")
    _, path, body = api.requests[-1]
    approval, message = Approval.model_validate(body), canonical_json(RELEASE.model_dump(mode="json"))
    public = SigningKey(Ed25519PrivateKey.from_private_bytes(b"a" * 32)).public
    assert path == "/v1/releases/digits_line-1/approval"
    assert verify(public, CONTEXT_APPROVAL, message, bytes.fromhex(approval.signature))


def test_approve_signs_nothing_but_the_digest_that_was_checked(skerry: Run, api: OperatorsApi) -> None:
    digest = re.search(r"digest to approve\s+([0-9a-f]{64})", skerry("release show digits_line-1")[1])
    assert digest
    assert skerry(f"release approve digits_line-1 --key approver.pem --digest {'0' * 64}")[2].startswith("skerry: SIGNER_APPROVAL")
    assert [method for method, _, _ in api.requests] == ["GET", "GET"]
    assert skerry(f"release approve digits_line-1 --key approver.pem --digest {digest[1]}")[0] == exits.OK


def test_what_is_not_built_cannot_be_approved(skerry: Run, api: OperatorsApi) -> None:
    api.answers["GET /v1/releases/digits_line-1"] = api.release("BUILDING", release=None)
    assert skerry("release approve digits_line-1 --key approver.pem")[2].startswith("skerry: BUILD_RELEASE_STATE")


def test_a_file_that_is_no_key_is_refused(skerry: Run) -> None:
    assert skerry("release approve digits_line-1 --key campaign.toml")[2].startswith("skerry: CONFIG_INVALID")
    assert skerry("release approve digits_line-1 --key absent.pem")[2].startswith("skerry: CONFIG_MISSING")


# -- waiting


def test_waiting_follows_the_log_until_the_state_is_reached(skerry: Run, api: OperatorsApi) -> None:
    states = iter(("BUILDING", "BUILT", "APPROVED"))

    def next_state(_body: Any) -> Any:
        api.events.append(api.events[-1].model_copy(update={"seq": api.events[-1].seq + 1}))  # something happened meanwhile
        return api.release(next(states))

    api.answers["GET /v1/releases/digits_line-1"] = next_state
    code, out, err = skerry("release show digits_line-1 --wait APPROVED --timeout-s 20 --json")
    assert (code, json.loads(out)["state"]) == (exits.OK, "APPROVED")
    assert err.splitlines() == [f"digits_line-1 is {state}; waiting for APPROVED" for state in ("BUILDING", "BUILT")], (
        "nobody waits in silence"
    )


def test_a_wait_ends_in_time_with_4(skerry: Run, api: OperatorsApi) -> None:
    api.answers["GET /v1/releases/digits_line-1"] = api.release("BUILDING", release=None)
    code, _, err = skerry("release show digits_line-1 --wait SIGNED --timeout-s 0")
    assert code == exits.NOT_YET
    assert "release digits_line-1 SIGNED: not so after 0 s" in err


def test_a_failed_release_ends_the_wait_with_1(skerry: Run, api: OperatorsApi) -> None:
    api.answers["GET /v1/releases/digits_line-1"] = api.release("FAILED", release=None, code="BUILD_LINT", detail="BUILD_LINT: Gemm")
    code, out, _ = skerry("release show digits_line-1 --wait SIGNED")
    assert code == exits.FAILED
    assert "BUILD_LINT: Gemm" in out


@pytest.mark.parametrize(("state", "code"), [("SUCCEEDED", exits.OK), ("ROLLED_BACK", exits.FAILED), ("ABORTED", exits.FAILED)])
def test_watching_ends_with_the_campaign(skerry: Run, api: OperatorsApi, state: Any, code: int) -> None:
    api.campaign = api.campaign.model_copy(update={"state": state})
    found, out, _ = skerry("campaign show first-1 --watch")
    assert found == code
    assert state in out


@pytest.mark.parametrize("act", ["pause", "resume", "abort"])
def test_who_steers_may_name_the_revision_that_he_saw(skerry: Run, api: OperatorsApi, act: str) -> None:
    skerry(f"campaign {act} first-1")
    skerry(f"campaign {act} first-1 --revision 4")
    assert [(method, path) for method, path, _ in api.requests] == [("POST", f"/v1/campaigns/first-1/{act}")] * 2
    assert api.if_match == [None, '"4"']


# -- the picture


def test_the_campaign_is_a_picture_people_can_read(skerry: Run) -> None:
    _, out, _ = skerry("campaign show first-1")
    lines = out.splitlines()
    assert lines[0].startswith("campaign first-1  RUNNING  release digits_line-1")
    assert "waits for wave 2: install_success, until 2026-11-01T13:00:00Z" in lines[1]
    assert [line.split("  ")[1].strip() for line in lines if line.startswith("wave ")] == ["PASSED", "OPEN"]
    row = {line.split()[0]: " ".join(line.split()) for line in lines if line.strip()}
    assert row["latency_p95_us"] == "latency_p95_us 431 us 362 us to - <= 20,000 us 60 waiting 60 of 100 frames"
    agreement = "agreement 0.931 0.887 to 0.968 >= 0.832, fails < 0.916 160 passed expected 0.932, margin 0.1"
    assert row["agreement"] == agreement, "the margin is held against what is expected"
    assert any(DEVICE in line and "CONFIRMED" in line for line in lines), "ids are whole"
    assert any("BUNDLE_NO_SPACE" in line for line in lines)


def test_every_gate_has_a_picture() -> None:
    metrics = set(GateMetric.__args__)  # type: ignore[attr-defined]
    assert set(campaign_picture._LIMITS) == set(campaign_picture._VALUES) == metrics


# -- making a campaign


def test_options_become_the_request(skerry: Run, api: OperatorsApi) -> None:
    options = "--wave 1:30 --wave all --gate latency_p95_us=20000@100 --label line=3 --probation-s 0"
    skerry(f"campaign create second --release digits_line-2 {options}")
    request = CampaignRequest.model_validate(api.requests[-1][2])
    assert (request.name, request.release, request.labels, request.probation_s) == ("second", "digits_line-2", {"line": "3"}, 0)
    assert [(wave.size, wave.soak_s, wave.gates[0].min_samples) for wave in request.waves] == [(1, 30, 100), (None, 0, 100)]


def test_options_win_over_the_file(skerry: Run, api: OperatorsApi) -> None:
    skerry("campaign create --file campaign.toml --release digits_line-2")
    request = CampaignRequest.model_validate(api.requests[-1][2])
    assert (request.name, request.release, request.waves[0].size) == ("first", "digits_line-2", 1)


@pytest.mark.parametrize(
    "wrong",
    [
        "create x --release r-1", "create X --release r-1 --wave 1",
        "create x --release r-1 --wave some", "create x --release r-1 --wave 1:x",
        "create x --release r-1 --wave 1 --gate speed=1", "create x --release r-1 --wave 1 --gate agreement", "create x --gate agreement=1",
        "create x --release r-1 --wave 1 --on-failure hope",
    ],
)  # fmt: skip
def test_a_mistake_is_met_before_anything_is_sent(skerry: Run, api: OperatorsApi, wrong: str) -> None:
    code, _, err = skerry(f"campaign {wrong}")
    assert (code, err.split(": ")[1]) == (exits.FAILED, "CAMPAIGN_INVALID")
    assert api.requests == []


@pytest.mark.parametrize("size", ["0", "-1"])
def test_a_wave_of_nothing_is_met_before_anything_is_sent(skerry: Run, api: OperatorsApi, size: str) -> None:
    code, _, err = skerry(f"campaign create x --release r-1 --wave=1 --wave={size}")
    assert (code, err.split(": ")[1]) == (exits.FAILED, "CAMPAIGN_WAVE_EMPTY")
    assert f"wave 2 is of {size} devices" in err
    assert api.requests == []


def test_an_error_reads_the_same_for_people_and_for_scripts(skerry: Run) -> None:
    """What, what to do, where it is explained; on stderr, so that a pipe gets results and nothing else."""
    _, out, err = skerry("release show nothing-1")
    assert out == ""
    assert err.splitlines()[1:] == ["  remedy: check the id", "  see: docs/reference/errors.md#api_not_found"]
    _, out, err = skerry("release show nothing-1 --json")
    told = json.loads(err)
    assert (out, told["code"], told["remedy"], told["see"]) == (
        "",
        "API_NOT_FOUND",
        "check the id",
        "docs/reference/errors.md#api_not_found",
    )
    assert set(told) == {"program", "code", "detail", "remedy", "see"}


@pytest.mark.parametrize("content", ["name = ", 'nome = "x"'])
def test_a_file_with_a_mistake_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "wrong.toml").write_text(content)
    with pytest.raises(SkerryError, match="CAMPAIGN_INVALID"):
        campaign_request.build(tmp_path / "wrong.toml", {})


def test_a_label_is_key_and_value() -> None:
    assert campaign_request.labels(["a=b=c", "d="]) == {"a": "b=c", "d": ""}
    with pytest.raises(SkerryError, match="API_INVALID"):
        campaign_request.labels(["line"])


# -- what it needs to run


def test_it_runs_without_what_only_servers_have(api: OperatorsApi, tmp_path: Path) -> None:
    """A process that cannot import the server's libraries lists, draws and approves."""
    (tmp_path / "token").write_text(TOKEN)
    program = f"""
import sys
class Barred:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BARRED!r}:
            raise ImportError("barred: " + name)
sys.meta_path.insert(0, Barred())
from control_plane.cli.main import run
common = ["--url", {api.url!r}, "--token-file", {str(tmp_path / "token")!r}]
for line in (["campaign", "show", "first-1"], ["release", "show", "digits_line-1"], ["trace", {BUNDLE!r}]):
    assert run([*line, *common]) == 0, line
import control_plane.cli.approval
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_help_is_quick_because_it_imports_little() -> None:
    program = "import sys, time; from control_plane.cli.main import run; run(['--help']); print(time.process_time(), *sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    cpu_s, *modules = done.stdout.splitlines()[-1].split()
    assert not {"urllib3", "pydantic", "cryptography", "rich"} & set(modules)
    assert float(cpu_s) < HELP_WITHIN_S
