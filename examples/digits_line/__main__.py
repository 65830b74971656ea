"""python -m examples.digits_line train | frames | register"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from examples import command_line
from examples.command_line import Example, Progress

if TYPE_CHECKING:
    from examples.trained import Trained


def _train(recipe: int, say: Progress) -> Trained:
    from examples.digits_line import train

    return train.train(recipe, say)


def _frames(folder: Path, count: int, device: int) -> object:
    from examples.digits_line.frames import write_frames

    return write_frames(folder, count, device)


DIGITS_LINE = Example("digits_line", {1: "few frames", 2: "many", 3: "spoilt"}, _train, _frames)


def main(arguments: list[str] | None = None) -> int:
    return command_line.main(DIGITS_LINE, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
