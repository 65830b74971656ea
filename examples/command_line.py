"""The commands that every example has: train, frames, register."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from contracts.errors import SkerryError

if TYPE_CHECKING:
    from examples.trained import Trained

DEFAULT_URL = "http://127.0.0.1:8484"
EXIT_OK, EXIT_FAILED = 0, 1
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Example:
    """`train(recipe, say)`, `write_frames(folder, count, device)`: they import what they need when called, so that `--help` is quick."""

    name: str  # of its module, and of the registered model
    recipes: Mapping[int, str]
    train: Callable[[int, Progress], Trained]
    write_frames: Callable[[Path, int, int], object]


class _Progress:
    """One line for each step, with the seconds since the start, on stderr: stdout is for results."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def __call__(self, line: str) -> None:
        print(f"{time.monotonic() - self._start:7.2f} s  {line}", file=sys.stderr, flush=True)


def main(example: Example, arguments: list[str] | None = None) -> int:
    options = _parser(example).parse_args(arguments)
    try:
        options.run(example, options, _Progress())
    except SkerryError as failed:
        print(f"{example.name}: {failed}\n  remedy: {failed.remedy}\n  see: {failed.see}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK


def _train(example: Example, options: argparse.Namespace, say: Progress) -> None:
    from contracts.canonical import sha256_hex
    from examples.trained import write
    from signatures import model_signature

    key = options.key.read_bytes()  # first, so that a wrong path is met before the work
    trained = example.train(options.recipe, say)
    write(trained, options.out, model_signature.sign(key, {"model.onnx": sha256_hex(trained.model)}))
    accuracy, low, high = (trained.metrics[name] for name in ("accuracy", "accuracy_low", "accuracy_high"))
    print(f"accuracy {accuracy:.4f} (95 % interval {low:.4f} to {high:.4f}, {trained.metrics['samples']:.0f} held-out frames)")
    print(f"data {trained.data_digest}")
    print(f"written to {options.out}")


def _frames(example: Example, options: argparse.Namespace, say: Progress) -> None:
    say(f"drawing {options.count} frames for device {options.device}")
    example.write_frames(options.out, options.count, options.device)
    print(f"written to {options.out}")


def _register(example: Example, options: argparse.Namespace, say: Progress) -> None:
    from examples.registration import OperatorApi, register

    api = OperatorApi(options.url, options.token_file.read_text().strip())
    try:
        print(register(api, options.name, options.folder, say).id)
    finally:
        api.close()


def _parser(example: Example) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m examples.{example.name}", description=" | ".join(("train", "frames", "register")))
    commands = parser.add_subparsers(required=True)
    train = commands.add_parser("train", help="train, evaluate and sign by one recipe")
    recipes = ", ".join(f"{number} {what}" for number, what in example.recipes.items())
    train.add_argument("--recipe", type=int, choices=tuple(example.recipes), required=True, help=f"{recipes} (README.md)")
    train.add_argument("--out", type=Path, required=True, help="folder for the files")
    train.add_argument("--key", type=Path, required=True, help="the trainer's signing key (EC P-256, PEM)")
    train.set_defaults(run=_train)
    frames = commands.add_parser("frames", help="draw the frames that one device's camera sees")
    frames.add_argument("--out", type=Path, required=True, help="folder for the PNG files")
    frames.add_argument("--device", type=int, default=1, help="seeds the choice of frames (default %(default)s)")
    frames.add_argument("--count", type=int, default=300, help="how many (default %(default)s)")
    frames.set_defaults(run=_frames)
    register = commands.add_parser("register", help="upload and register what `train` wrote; prints the model version")
    register.add_argument("--folder", type=Path, required=True, help="what --out of `train` was")
    register.add_argument("--token-file", type=Path, required=True, help="the operators' token")
    register.add_argument("--url", default=DEFAULT_URL, help="the operators' API (default %(default)s)")
    register.add_argument("--name", default=example.name, help="the registered model (default %(default)s)")
    register.set_defaults(run=_register)
    return parser
