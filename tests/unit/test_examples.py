"""The examples' command line for somebody who has never used it: each mistake has a code and a remedy, no step is silent for long."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from examples.belt_parts import picture
from examples.belt_parts.__main__ import BELT_PARTS
from examples.command_line import EXIT_FAILED, EXIT_OK, main, progress

DEADLINE_S = 10.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files that are wrong, and one key that is not."""
    p256, other = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
    locked = BestAvailableEncryption(b"x")
    (tmp_path / "key.pem").write_bytes(p256.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "locked.pem").write_bytes(p256.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked))
    (tmp_path / "ed25519.pem").write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "text").write_text("no key, no folder")
    return tmp_path


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train --recipe 1 --out @v1 --key @nowhere.pem", "CONFIG_MISSING: nowhere.pem: No such file or directory"),
        ("train --recipe 1 --out @v1 --key @text", "BUNDLE_MODEL_SIGNATURE: text: no EC P-256 key"),
        ("train --recipe 1 --out @v1 --key @ed25519.pem", "BUNDLE_MODEL_SIGNATURE: ed25519.pem: no EC P-256 key"),
        ("train --recipe 1 --out @v1 --key @locked.pem", "BUNDLE_MODEL_SIGNATURE: locked.pem: no EC P-256 key"),
        ("train --recipe 1 --out @text/v1 --key @key.pem", "SETUP_STATE_DISK: text/v1: Not a directory"),
        ("frames --out @text --count 1", "SETUP_STATE_DISK: text: File exists"),
        ("register --folder @v1 --token-file @nowhere", "CONFIG_MISSING: nowhere: No such file or directory"),
        ("register --folder @nowhere --token-file @text", "CONFIG_MISSING: nowhere/model.onnx: No such file or directory"),
    ],
)
def test_a_mistake_has_a_code_and_a_remedy_before_any_work(line: str, said: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(BELT_PARTS, [word.replace("@", f"{folder}/") for word in line.split()]) == EXIT_FAILED
    told = capsys.readouterr().err.replace(f"{folder}/", "")
    assert told.startswith(f"belt_parts: {said}")
    assert "  remedy: " in told
    assert "drawing" not in told


@pytest.mark.parametrize("count", ["0", "-1", "many", "100001"])
def test_a_count_that_cannot_be_is_a_usage_error(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(BELT_PARTS, ["frames", "--out", "f", "--count", count])
    assert "from 1 to 100000" in capsys.readouterr().err


def test_frames_and_a_picture_say_where_they_are(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(BELT_PARTS, ["frames", "--out", str(folder / "f"), "--count", "2"]) == EXIT_OK
    assert capsys.readouterr().out == f"written to {folder}/f\n"
    assert len(list((folder / "f").iterdir())) == 2
    assert picture.main(["--folder", str(folder), "--out", str(folder / "boxes.jpg")]) == EXIT_FAILED
    assert capsys.readouterr().err.startswith(f"belt_parts.picture: CONFIG_MISSING: {folder}/processing.json")


def test_a_step_that_takes_long_is_said_again(capsys: pytest.CaptureFixture[str]) -> None:
    told, end = "", time.monotonic() + DEADLINE_S
    with progress(beat_s=0.02) as say:
        say("learning")
        while "still learning" not in told and time.monotonic() < end:
            told += capsys.readouterr().err
    assert "still learning" in told
