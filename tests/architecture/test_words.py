"""Names and habits: one word per thing, no catch-all, no sleep for synchronisation, no foreign place named in the repository."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from contracts.errors import CODES
from tests.architecture.source import PACKAGES, REPO, calls, imported, python_files, text_files, tree

BARRED_WORDS = {"utils", "util", "helpers", "helper", "manager", "common", "misc"}
THIS = Path("tests/architecture/test_words.py")

# Pieces, so that this file does not accuse itself.
OUTSIDE = {
    "a path of one machine": r"(?<![\w.])/(work|root)/(?!\.\.)\w",
    "a registry's address": r"pypi\.org|pythonhosted|--index-url|--extra-index-url|index_url\s*=",
    "a page outside the repository": r"\b(DESIGN|PROTOCOLS|EXEMPLARS)\.md|build_facts|shared/reference",
}
MERGE_MARK = re.compile(r"^(<{7}|>{7}|\|{7}) |^={7}$", re.MULTILINE)
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")

# place -> why it may swallow everything, or sleep
CATCH_ALL_ALLOWED: dict[str, str] = {}
SLEEP_ALLOWED: dict[str, str] = {
    "edge_agent/inference/worker/backends/fake.py": "hanging and slowness are the faults that this backend has on demand",
    "edge_agent/inference/attach.py": "a pause before accepting again: a descriptor that is free announces itself to nobody",
    "edge_agent/inference/host.py": "back-off before a dead worker is started again; ends early by cancellation",
    "edge_agent/inference/oip/agent_stream.py": "the period of the front's heartbeat; ends early by cancellation",
    "edge_agent/inference/oip/link.py": "the period of a check whether the front has gone silent; ends early by cancellation",
    "edge_agent/pipeline/link.py": "the period of a check whether the pipeline has gone silent; ends early by cancellation",
    "tests/benchmarks/life.py": "what idle processes cost is measured over a time in which nothing happens",
    "tests/integration/release_site.py": "asks, with a deadline, whether a socket's file is there: a file announces itself to nobody",
    "tests/integration/test_signer_socket.py": "asks for the next published version, with a deadline: a file announces itself to nobody",
    "tests/simulators/agent_process.py": "asks a running agent for its status, with a deadline",
    "tests/simulators/director.py": "a server that is slow by the clock is one of its faults",
}
CODE = tuple((*PACKAGES, "tests", "docs"))


def places(pattern: str | re.Pattern[str], paths: list[Path]) -> list[str]:
    found = []
    for path in paths:
        for number, line in enumerate((REPO / path).read_text(errors="replace").splitlines(), 1):
            if path != THIS and re.search(pattern, line):
                found.append(f"{path}:{number}: {line.strip()[:120]}")
    return found


def test_nothing_points_outside_the_repository() -> None:
    paths = [path for path in text_files() if path.name != "LICENSE"]
    assert {what: found for what, pattern in OUTSIDE.items() if (found := places(pattern, paths))} == {}


def test_no_merge_marks() -> None:
    assert places(MERGE_MARK, list(text_files())) == []


def test_nothing_is_left_unfinished() -> None:
    assert places(UNFINISHED, python_files(*PACKAGES)) == []


def test_no_file_is_named_after_nothing() -> None:
    assert [str(path) for path in text_files() if BARRED_WORDS & set(re.split(r"[_.\-/]", str(path).lower()))] == []


def test_no_class_is_named_after_nothing() -> None:
    named = [
        f"{path}:{node.lineno} {node.name}"
        for path in python_files(*CODE)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef) and BARRED_WORDS & {word.lower() for word in re.findall(r"[A-Z][a-z]*", node.name)}
    ]
    assert named == []


def _swallows_all(node: ast.AST) -> bool:
    """Catches every exception and does not end by raising it, or a translation of it."""
    if not isinstance(node, ast.ExceptHandler) or isinstance(node.body[-1], ast.Raise):
        return False
    kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    return any(kind is None or (isinstance(kind, ast.Name) and kind.id in ("Exception", "BaseException")) for kind in kinds)


def test_an_unforeseen_exception_is_never_swallowed() -> None:
    found = {f"{path}" for path in python_files(*PACKAGES) for node in ast.walk(tree(path)) if _swallows_all(node)}
    assert sorted(found - set(CATCH_ALL_ALLOWED)) == []
    assert sorted(set(CATCH_ALL_ALLOWED) - found) == []


def _sleeps(path: Path, *names: str) -> bool:
    """Sleeping for 0 seconds only lets the others run."""
    return any(name in names and not (isinstance(call.args[0], ast.Constant) and call.args[0].value == 0) for name, call in calls(path))


def test_nobody_sleeps_to_be_in_time() -> None:
    found = {str(path) for path in python_files(*CODE) if _sleeps(path, "time.sleep", "sleep")}
    found |= {str(path) for path in python_files(*PACKAGES) if _sleeps(path, "asyncio.sleep")}
    assert sorted(found - set(SLEEP_ALLOWED)) == []
    assert sorted(set(SLEEP_ALLOWED) - found) == []


def test_doubles_are_simulators_and_not_mocks() -> None:
    mocked = [
        f"{path}:{line}" for path in python_files("tests") for name, line in imported(path) if name.startswith(("unittest.mock", "mock"))
    ]
    patched = [hit for hit in places(r"\bmonkeypatch\b", python_files("tests")) if "test_words.py" not in hit]
    assert mocked + patched == []


RAISERS = {"error", "TransientError", "RejectedError", "TrustError", "LocalFaultError", "errors.error"}


def test_every_code_that_is_raised_is_registered() -> None:
    unknown = [
        f"{path}:{call.lineno} {call.args[0].value!r}"
        for path in python_files(*PACKAGES)
        for name, call in calls(path)
        if name in RAISERS and call.args and isinstance(call.args[0], ast.Constant) and call.args[0].value not in CODES
    ]
    assert unknown == []


def test_topics_are_spelled_in_one_place() -> None:
    paths = [path for path in python_files(*PACKAGES) if path != Path("contracts/topics.py")]
    # bytes are the contexts of signatures, contracts/canonical.py
    assert places(r"(?<!b)[\"']skerry/1/(up|ack|nack|state|wake|snapshot)", paths) == []


def test_http_status_codes_stay_at_the_rim() -> None:
    paths = python_files("control_plane/domain", "control_plane/services", "control_plane/store")
    codes = {400, 401, 403, 404, 409, 410, 412, 413, 422, 428, 429, 502, 503, 504}
    found = [
        f"{path}:{node.lineno} {node.value}"
        for path in paths
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and type(node.value) is int and node.value in codes
    ]
    assert found == []
