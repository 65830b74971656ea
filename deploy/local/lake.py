"""Reads the lake as any user of it would: the Delta tables by delta-rs, nothing of ours in between. No DISTINCT, no MERGE.

python -m deploy.local.lake pick LAKE --seed N --bundle DIGEST     one row, chosen by a seeded random
python -m deploy.local.lake pauses LAKE                            per device (on stdin: windows of monotonic time) the longest pause
python -m deploy.local.lake answers LAKE --bundle DIGEST           per device: its newest row, and the rows that this bundle answered
python -m deploy.local.lake count LAKE                             rows and distinct-free counts per table
python -m deploy.local.lake rates LAKE --bin-s N                   rows per bin of time: answered, accepted, committed, refused, shed
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

WINDOWS = "__"  # in the name of a table: bronze_<family>__<window>


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.local.lake", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("act", choices=sorted(ACTS))
    parser.add_argument("lake", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bundle", default="")
    parser.add_argument("--bin-s", type=int, default=1)
    print(json.dumps(ACTS[(options := parser.parse_args(arguments)).act](options), default=str))
    return 0


def _pick(options: argparse.Namespace) -> dict[str, Any]:
    """A row of bronze by that bundle: the place in (stream, seq, idx) order is drawn, so that the same lake gives the same row."""
    rows = _bronze(options.lake, ["stream", "seq", "idx", "device_id", "bundle_digest", "frame_no", "mono_us"])
    wanted = sorted(
        (row for row in rows if options.bundle in ("", row["bundle_digest"])), key=lambda row: (row["stream"], row["seq"], row["idx"])
    )
    return {"of": len(wanted), "row": random.Random(options.seed).choice(wanted)}  # noqa: S311  # a choice, not a secret


def _pauses(options: argparse.Namespace) -> dict[str, Any]:
    """stdin: {name: [from_us, to_us]}; per window and device the rows in it and the longest time between two of them."""
    windows = json.load(sys.stdin)
    times: dict[str, list[int]] = {}
    for row in _bronze(options.lake, ["device_id", "mono_us"]):
        times.setdefault(row["device_id"], []).append(row["mono_us"])
    return {name: {device: longest_pause(mono_us, *window) for device, mono_us in times.items()} for name, window in windows.items()}


def longest_pause(mono_us: Iterable[int], from_us: int, to_us: int) -> dict[str, int]:
    """Over the frames in the window and the nearest one on either side; a window without any frame is one long pause."""
    ordered = sorted(mono_us)
    before = [at for at in ordered if at < from_us][-1:] or [from_us]
    after = [at for at in ordered if at > to_us][:1] or [to_us]
    inside = [at for at in ordered if from_us <= at <= to_us]
    return {"frames": len(inside), "longest_us": max(later - earlier for earlier, later in pairwise([*before, *inside, *after]))}


def _answers(options: argparse.Namespace) -> dict[str, Any]:
    rows: dict[str, list[tuple[int, str, str]]] = {}
    for row in _bronze(options.lake, ["device_id", "mono_us", "bundle_digest", "event_utc"]):
        rows.setdefault(row["device_id"], []).append((row["mono_us"], row["bundle_digest"], row["event_utc"].isoformat()))
    return {device: answers(sorted(times), options.bundle) for device, times in rows.items()}


def answers(ordered: Sequence[tuple[int, str, str]], digest: str) -> dict[str, Any]:
    """Of one device's (monotonic time, bundle, UTC): how many `digest` answered, the first one, and the first by another one after them."""
    by = [at for at, (_, bundle, _) in enumerate(ordered) if bundle == digest]
    seen: dict[str, Any] = {"newest_us": ordered[-1][0], "rows": len(by)}
    if by:
        after = ordered[by[-1] + 1 : by[-1] + 2]
        seen |= {"first_utc": ordered[by[0]][2], "last_utc": ordered[by[-1]][2], "next_utc": after[0][2] if after else ""}
    return seen


def _count(options: argparse.Namespace) -> dict[str, int]:
    return {path.name: _read(path, ["seq"]).num_rows for path in _tables(options.lake, "*")}


def _rates(options: argparse.Namespace) -> dict[str, Any]:
    """answered: [second, device, digest, rows]; accepted, committed: [second, rows]; quarantine, gaps: [second, device, why, rows]."""
    bronze, lake = _tables(options.lake, "bronze_*"), options.lake
    return {
        "bin_s": options.bin_s,
        "answered": _binned(_frames(lake), "event_utc", options.bin_s, "device_id", "bundle_digest"),
        "accepted": _binned(bronze, "accepted_utc", options.bin_s),
        "committed": _binned(bronze, "ingest_utc", options.bin_s),
        "quarantine": _binned(_tables(lake, "quarantine"), "ingest_utc", options.bin_s, "device_id", "code", rows="rows"),
        "gaps": _binned(_tables(lake, "gaps"), "ingest_utc", options.bin_s, "device_id", "reason", rows="rows"),
    }


def _binned(tables: Sequence[Path], time: str, bin_s: int, *keys: str, rows: str | None = None) -> list[list[Any]]:
    """[first second of the bin, *keys, rows] in order; `rows` names the column that says for how many a row stands."""
    counts: Counter[tuple[Any, ...]] = Counter()
    for path in tables:
        for row in _read(path, [time, *keys, *([rows] if rows else [])]).to_pylist():
            second = int(row[time].timestamp()) // bin_s * bin_s
            counts[(second, *(row[key] for key in keys))] += row[rows] if rows else 1
    return [[*key, count] for key, count in sorted(counts.items())]


def _bronze(lake: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Of frames, not of windows."""
    return [row for path in _frames(lake) for row in _read(path, columns).to_pylist()]


def _frames(lake: Path) -> list[Path]:
    return [path for path in _tables(lake, "bronze_*") if WINDOWS not in path.name]


def _tables(lake: Path, pattern: str) -> list[Path]:
    return sorted(path for path in lake.glob(pattern) if (path / "_delta_log").is_dir())


def _read(path: Path, columns: Sequence[str]) -> Any:
    """By Arrow's own file system: through delta-rs's, which is Python, reading threads may outlive the interpreter and abort it."""
    from deltalake import DeltaTable  # noqa: PLC0415  # only who reads the lake needs these
    from pyarrow import fs  # noqa: PLC0415

    return DeltaTable(str(path)).to_pyarrow_table(columns=list(columns), filesystem=fs.SubTreeFileSystem(str(path), fs.LocalFileSystem()))


ACTS = {"pick": _pick, "pauses": _pauses, "answers": _answers, "count": _count, "rates": _rates}

if __name__ == "__main__":
    raise SystemExit(main())
