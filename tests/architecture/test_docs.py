"""The documentation: generated pages are current, links lead somewhere, commands and options that are shown exist."""

from __future__ import annotations

import importlib
import itertools
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from deltalake import DeltaTable

from contracts.errors import CODES
from contracts.features import FRAME_COLUMNS, GAPS, QUARANTINE, Column, FeatureSchema, bronze
from docs import generate
from examples.belt_parts import train as belt_parts
from sync.ingest.arrow import arrow_schema
from tests.architecture.source import PACKAGES, REPO, text_files
from tests.architecture.test_programs import SCRIPTS

PAGES = sorted(path for path in text_files() if path.suffix == ".md")
ADRS = sorted((REPO / "docs" / "adr").glob("[0-9]*.md"))


@pytest.mark.parametrize("name", sorted(generate.PAGES))
def test_a_generated_page_is_current(name: str) -> None:
    assert (generate.REFERENCE / name).read_text() == generate.PAGES[name](), "run: python -m docs.generate"


@pytest.mark.parametrize("program", generate.PROGRAMS, ids=lambda program: program[0])
def test_every_configuration_key_says_what_it_is(program: tuple[str, str, str, str]) -> None:
    model = getattr(importlib.import_module(program[2]), program[3])
    assert [key.name for key in generate.keys(model) if not key.text] == []


def test_every_error_code_has_its_anchor() -> None:
    page = (generate.REFERENCE / "errors.md").read_text()
    assert [code for code in CODES if page.count(f'<a id="{code.lower()}"></a>') != 1] == []


def test_the_picture_of_the_whole_names_every_program_and_package() -> None:
    text = (REPO / "docs" / "explanation" / "architecture.md").read_text()
    assert [name for name in SCRIPTS if f"`{name}`" not in text] == []
    assert [name for name in PACKAGES if f"`{name}/" not in text] == []


# -- links


def links(page: Path) -> list[str]:
    text = re.sub(r"```.*?```", "", (REPO / page).read_text(), flags=re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", text)


def anchors(page: Path) -> set[str]:
    text = page.read_text()
    named = set(re.findall(r'<a id="([^"]+)">', text))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return named | {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_link_leads_to_a_page_and_an_anchor_of_this_repository(page: Path) -> None:
    broken = []
    for link in links(page):
        target, _, anchor = link.partition("#")
        file = (REPO / page).parent / target if target else REPO / page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_page_names_no_foreign_address(page: Path) -> None:
    hosts = re.findall(r"https?://([^\s/:`)\"'>]+)", (REPO / page).read_text())
    assert [host for host in hosts if host not in ("localhost", "127.0.0.1", "host") and not host.endswith(".example")] == []


def test_a_page_that_is_named_anywhere_exists() -> None:
    missing = []
    for path in text_files():
        for name in re.findall(r"(?<![\w/])docs/[\w./-]+\.(?:md|svg)", (REPO / path).read_text(errors="replace")):
            if not (REPO / name).is_file():
                missing.append(f"{path}: {name}")
    assert missing == []


def test_decisions_are_numbered_without_a_gap_and_say_what_else_was_thought_of() -> None:
    assert [adr.name[:4] for adr in ADRS] == [f"{number:04}" for number in range(1, len(ADRS) + 1)]
    for adr in ADRS:
        headings = re.findall(r"^## (.+)$", adr.read_text(), re.MULTILINE)
        assert {"Context", "Decision", "Consequences"} <= set(headings), adr.name


def test_an_adr_that_the_code_names_exists() -> None:
    named = {match for path in text_files() for match in re.findall(r"docs/adr/(\d{4})", (REPO / path).read_text(errors="replace"))}
    assert named <= {adr.name[:4] for adr in ADRS}


def test_images_are_small_and_shown() -> None:
    images = sorted((REPO / "docs" / "images").iterdir())
    shown = {(REPO / page).parent.joinpath(link).resolve() for page in PAGES for link in links(page)}
    assert [image.name for image in images if image not in shown or image.stat().st_size > 300_000] == []
    assert images


# -- commands


MODULES = ("python -m examples.digits_line", "python -m examples.belt_parts")


def commands() -> list[tuple[Path, str]]:
    """Lines of shell blocks that start a program of ours; a backslash at the end joins lines."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```(?:sh|console)\n(.*?)```", (REPO / page).read_text(), flags=re.DOTALL):
            for raw in block.replace("\\\n", " ").splitlines():
                line = re.sub(r"^(\$ |sudo )+", "", raw.partition(" #")[0].strip())
                if line.split(" ")[0] in SCRIPTS or line.startswith(MODULES):
                    found.append((page, line))
    return found


@cache
def help_of(words: tuple[str, ...]) -> str:
    if words[0] == "python":
        command = [sys.executable, *words[1:], "--help"]
    else:
        module, _, name = SCRIPTS[words[0]].partition(":")
        command = [
            sys.executable,
            "-c",
            f"import sys; sys.argv = {[*words, '--help']!r}; from {module} import {name}; raise SystemExit({name}())",
        ]
    done = subprocess.run(command, cwd=REPO, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr[-500:]}"
    return done.stdout


def test_commands_are_shown() -> None:
    assert {line.split(" ")[0] for _, line in commands()} >= {"skerry", "skerry-agent"}


@pytest.mark.parametrize(("page", "line"), commands(), ids=lambda part: str(part).replace("/", "."))
def test_a_command_that_is_shown_exists_with_its_options(page: Path, line: str) -> None:
    words = shlex.split(line.partition("|")[0].partition(" > ")[0])
    program = words[: 3 if words[0] == "python" else 1]
    subcommands = program + list(itertools.takewhile(lambda word: re.fullmatch(r"[a-z][a-z-]*", word), words[len(program) :]))
    # What follows the subcommands may be a value; the help one level up says where they end.
    while len(subcommands) > len(program) and not _is_command(tuple(subcommands)):
        subcommands.pop()
    shown = {word.partition("=")[0] for word in words if word.startswith("--")}
    known = set(re.findall(r"--[a-z0-9][a-z0-9-]*", help_of(tuple(subcommands)) + help_of(tuple(program))))
    assert shown <= known, f"{page}: {line}"


@cache
def _is_command(words: tuple[str, ...]) -> bool:
    """Whether the last word is a subcommand: the help one level up names it."""
    return bool(re.search(rf"(?<![\w-]){re.escape(words[-1])}(?![\w-])", help_of(words[:-1])))


# -- Python blocks


def test_the_queries_that_are_shown_run_on_the_tables_of_the_contract(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    schema = FeatureSchema(
        family="digits_line",
        columns=(*FRAME_COLUMNS, Column(name="label", type="i16"), Column(name="score", type="f32")),
    )
    for table in (bronze(schema), bronze(belt_parts.FEATURE_SCHEMA), QUARANTINE, GAPS):
        DeltaTable.create(str(lake / table.name), schema=arrow_schema(table.columns), partition_by=list(table.partition_by))
    page = (REPO / "docs" / "how-to" / "query-the-lake.md").read_text()
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "quarantine 0" in done.stdout
