"""Detection, compatibility and telemetry, from recorded file trees."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.errors import LocalFaultError
from firmware_profiles import telemetry
from firmware_profiles.compatible import choose, reasons
from firmware_profiles.detect import detect, read_machine
from firmware_profiles.profiles import profiles
from tests.simulators.bundles import fake_slot

X86 = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Gateway CPU\nflags\t\t: fpu sse4_2 {flags}\n"
ARM = "processor\t: 0\nBogoMIPS\t: 62.50\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\n"
L4T = "# R{major} (release), REVISION: {minor}, GCID: 1, BOARD: generic, EABI: aarch64\n"


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def jetson(chip: str, major: int) -> dict[str, str]:
    return {
        "proc/cpuinfo": ARM,
        "proc/device-tree/compatible": f"nvidia,p3768-0000+p3767-0005\0nvidia,{chip}\0",
        "proc/device-tree/model": "A Jetson Developer Kit\0",
        "etc/nv_tegra_release": L4T.format(major=major, minor="4.0"),
    }


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({"proc/cpuinfo": X86.format(flags="")}, "x86-cpu-base"),
        ({"proc/cpuinfo": X86.format(flags="avx avx2")}, "x86-cpu-avx2"),
        ({"proc/cpuinfo": X86.format(flags="avx2 avx_vnni")}, "x86-cpu-vnni"),
        ({"proc/cpuinfo": X86.format(flags="avx2 avx512_vnni")}, "x86-cpu-vnni"),
        ({"proc/cpuinfo": ARM}, "arm64-cpu-base"),
        (jetson("tegra194", 35), "jetson-xavier-trt8"),
        (jetson("tegra234", 35), "jetson-orin-trt8"),
        (jetson("tegra234", 36), "jetson-orin-trt10"),
        (jetson("tegra264", 38), "jetson-thor-trt10"),
        (jetson("tegra234", 99), "arm64-cpu-base"),  # a release that we do not know: no TensorRT promise
    ],
)
def test_profile_is_detected_from_the_file_tree(tmp_path: Path, files: dict[str, str], name: str) -> None:
    assert detect(tree(tmp_path, files)).name == name


def test_an_unknown_machine_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(LocalFaultError, match="SETUP_PROFILE_UNKNOWN"):
        detect(tree(tmp_path, {"proc/cpuinfo": "cpu: POWER9"}))


def test_machine_facts_of_a_board(tmp_path: Path) -> None:
    machine = read_machine(tree(tmp_path, jetson("tegra234", 36)))
    assert (machine.machine, machine.model, machine.l4t) == ("aarch64", "A Jetson Developer Kit", "36.4.0")


def test_every_profile_says_what_was_run_and_has_a_backend() -> None:
    for profile in profiles().values():
        assert profile.evidence
        assert profile.backends
        assert profile.name.startswith("x86") or profile.evidence == "not run on hardware"
        assert 0 <= profile.spin_us <= 50


def test_reasons_against_a_bundle(tmp_path: Path) -> None:
    _, _, manifest = fake_slot(tmp_path)
    assert reasons(manifest, "x86-cpu-avx2", {"fake": "1.23.2"}) == []
    assert [r.code for r in reasons(manifest, "jetson-orin-trt10", {"fake": "1.23.2"})] == ["BUNDLE_PROFILE"]
    assert [r.code for r in reasons(manifest, "x86-cpu-avx2", {"fake": "2.0.0"})] == ["BUNDLE_RUNTIME"]
    assert [r.code for r in reasons(manifest, "other", {})] == ["BUNDLE_PROFILE", "BUNDLE_RUNTIME"]


@pytest.mark.parametrize(("version", "fits"), [("0.9.9", False), ("1.0.0", True), ("1.99.7", True), ("2.0", False), ("1.100.0", False)])
def test_runtime_range_is_inclusive_on_major_and_minor(tmp_path: Path, version: str, fits: bool) -> None:
    _, _, manifest = fake_slot(tmp_path)
    assert (choose(manifest, {"fake": version}) is not None) is fits


def test_the_first_variant_that_fits_is_chosen(tmp_path: Path) -> None:
    _, _, manifest = fake_slot(tmp_path)
    other = manifest.variants[0].model_copy(update={"backend": "tensorrt", "runtime_min": "10.0", "runtime_max": "10.99"})
    both = manifest.model_copy(update={"variants": (other, *manifest.variants)})
    assert choose(both, {"fake": "1.0.0"}) == manifest.variants[0]
    assert choose(both, {"fake": "1.0.0", "tensorrt": "10.3.0"}) == other


def test_temperature_is_the_hottest_zone_that_reads(tmp_path: Path) -> None:
    zones = "sys/class/thermal/thermal_zone{}/temp"
    tree(tmp_path, {zones.format(0): "41500\n", zones.format(1): "", zones.format(2): "-273150", zones.format(3): "47000"})
    assert telemetry.temperature_c(tmp_path) == 47.0
    assert telemetry.temperature_c(tmp_path / "none") is None


def test_throttling_is_a_cooling_device_at_work(tmp_path: Path) -> None:
    assert telemetry.throttled(tmp_path) is None
    tree(tmp_path, {"sys/class/thermal/cooling_device0/cur_state": "0", "sys/class/thermal/cooling_device1/cur_state": "2"})
    assert telemetry.throttled(tmp_path) is True


def test_memory_and_processes(tmp_path: Path) -> None:
    stat = "9 (a) b) S 1 9 9 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 100 1000 100"
    tree(
        tmp_path, {"proc/meminfo": "MemTotal: 2000 kB\nMemAvailable: 500 kB\n", "proc/9/stat": stat, "proc/9/statm": "900 100 50 1 0 60 0"}
    )
    assert telemetry.memory(tmp_path) == telemetry.Memory(2000 * 1024, 500 * 1024)
    assert telemetry.cpu_us(9, tmp_path) == 200 * 10_000
    assert telemetry.rss_bytes(9, tmp_path) == 100 * 4096
    assert telemetry.rss_bytes(10, tmp_path) is None
    assert telemetry.cpu_us(10, tmp_path) is None
