"""The commands that every example has: train, frames, register."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING

from contracts.errors import SkerryError, error
from program import failure
from program.disk import writing

if TYPE_CHECKING:
    from examples.trained import Trained

DEFAULT_URL = "http://127.0.0.1:8484"
EXIT_OK, EXIT_FAILED = 0, 1
MAX_FRAMES = 100_000  # of five digits are their names
BEAT_S = 1.5  # nobody waits for longer than this without a word
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Example:
    """`train(recipe, say)`, `write_frames(folder, count, device)`: they import what they need when called, so that `--help` is quick."""

    name: str  # of its module, and of the registered model
    recipes: Mapping[int, str]
    train: Callable[[int, Progress], Trained]
    write_frames: Callable[[Path, int, int], object]


class _Progress:
    """One line for each step, with the seconds since the start, on stderr: stdout is for results. A step that takes long is said again."""

    def __init__(self) -> None:
        self._began_s = self._said_s = time.monotonic()
        self._line = ""

    def __call__(self, line: str) -> None:
        self._line = line
        self._write(line)

    def beat(self, beat_s: float) -> None:
        if self._line and time.monotonic() - self._said_s >= beat_s:
            self._write(f"still {self._line}")

    def _write(self, line: str) -> None:
        self._said_s = time.monotonic()
        print(f"{self._said_s - self._began_s:7.2f} s  {line}", file=sys.stderr, flush=True)


@contextmanager
def progress(beat_s: float = BEAT_S) -> Iterator[Progress]:
    say, done = _Progress(), Event()

    def beat() -> None:
        while not done.wait(beat_s / 5):
            say.beat(beat_s)

    thread = Thread(target=beat, name="progress", daemon=True)
    thread.start()
    try:
        yield say
    finally:
        done.set()
        thread.join()


def main(example: Example, arguments: list[str] | None = None) -> int:
    options = _parser(example).parse_args(arguments)
    return told(example.name, lambda: options.run(example, options))


def told(name: str, act: Callable[[], object]) -> int:
    """The exit code: what failed is said with its code and remedy."""
    try:
        act()
    except SkerryError as failed:
        failure.tell(name, failed)
        return EXIT_FAILED
    return EXIT_OK


def read(path: Path) -> bytes:
    """Raises LocalFaultError CONFIG_MISSING."""
    try:
        return path.read_bytes()
    except OSError as unreadable:
        raise error("CONFIG_MISSING", str(path), str(unreadable.strerror)) from unreadable


def _folder(path: Path) -> Path:
    """Made before the work, so that a wrong path is met then. Raises LocalFaultError SETUP_STATE_DISK."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as refused:
        raise error("SETUP_STATE_DISK", str(path), str(refused.strerror)) from refused
    return path


def _train(example: Example, options: argparse.Namespace) -> None:
    from contracts.canonical import sha256_hex
    from examples.trained import write

    key, out = read(options.key), _folder(options.out)
    _sign(key, options.key, "")
    with progress() as say:
        say(f"recipe {options.recipe}: loading libraries and data")
        trained = example.train(options.recipe, say)
    with writing("SETUP_STATE_DISK", out, "writing the files"):
        write(trained, out, _sign(key, options.key, sha256_hex(trained.model)))
    accuracy, low, high = (trained.metrics[name] for name in ("accuracy", "accuracy_low", "accuracy_high"))
    print(f"accuracy {accuracy:.4f} (95 % interval {low:.4f} to {high:.4f}, {trained.metrics['samples']:.0f} held-out frames)")
    print(f"data {trained.data_digest}")
    print(f"written to {out}")


def _sign(key: bytes, path: Path, model_digest: str) -> bytes:
    """Raises TrustError BUNDLE_MODEL_SIGNATURE when it is no key of the right kind."""
    from signatures import model_signature

    try:
        return model_signature.sign(key, {model_signature.SIGNED_FILE: model_digest})
    except (ValueError, TypeError) as unusable:  # TypeError: a key with a passphrase
        raise error("BUNDLE_MODEL_SIGNATURE", str(path), f"no EC P-256 key in PEM form, without a passphrase: {unusable}") from unusable


def _frames(example: Example, options: argparse.Namespace) -> None:
    out = _folder(options.out)
    with progress() as say, writing("SETUP_STATE_DISK", out, "writing frames"):
        say(f"drawing {options.count} frames for device {options.device}")
        example.write_frames(out, options.count, options.device)
    print(f"written to {out}")


def _register(example: Example, options: argparse.Namespace) -> None:
    from examples.registration import OperatorApi, register

    api = OperatorApi(options.url, read(options.token_file).decode(errors="replace").strip())
    try:
        with progress() as say:
            print(register(api, options.name, options.folder, say).id)
    finally:
        api.close()


def count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_FRAMES:
        raise argparse.ArgumentTypeError(f"a whole number from 1 to {MAX_FRAMES}")
    return int(text)


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
    frames.add_argument("--count", type=count, default=300, help="how many (default %(default)s)")
    frames.set_defaults(run=_frames)
    register = commands.add_parser("register", help="upload and register what `train` wrote; prints the model version")
    register.add_argument("--folder", type=Path, required=True, help="what --out of `train` was")
    register.add_argument("--token-file", type=Path, required=True, help="the operators' token")
    register.add_argument("--url", default=DEFAULT_URL, help="the operators' API (default %(default)s)")
    register.add_argument("--name", default=example.name, help="the registered model (default %(default)s)")
    register.set_defaults(run=_register)
    return parser
