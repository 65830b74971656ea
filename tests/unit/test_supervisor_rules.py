"""The supervisor's decisions, on values: unit files, back-off, watchdog, order of stopping."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.local import supervision
from deploy.local.supervision import CAP_S, QUICK_S, Run, after_end, deadline_s, overdue, stop_order
from deploy.local.units import Unit, mapped, parse, span_s

TEXT = """# a comment
[Unit]
After=network.target skerry-signer.service
[Service]
Type=notify
ExecStart=/opt/skerry/bin/skerry-x run \\
  --config "/etc/skerry/x y.toml"
User=skerry-x
SupplementaryGroups=skerry-control
WatchdogSec=1min 30s
Restart=always
RestartSec=500ms
UMask=0027
Environment=A=1 "B=2 3"
Environment=C=4
"""


def unit(**changes: object) -> Unit:
    return Unit(**{**parse("x", TEXT).__dict__, **changes})


def test_a_unit_file_is_read_as_systemd_reads_it() -> None:
    read = parse("skerry-x", TEXT)
    assert read.argv == ("/opt/skerry/bin/skerry-x", "run", "--config", "/etc/skerry/x y.toml")
    assert (read.notify, read.user, read.groups, read.umask) == (True, "skerry-x", ("skerry-x", "skerry-control"), 0o027)
    assert (read.restart, read.restart_s, read.watchdog_s, read.start_timeout_s) == ("always", 0.5, 90.0, 90.0)
    assert dict(read.environment) == {"A": "1", "B": "2 3", "C": "4"}
    assert read.after == ("network.target", "skerry-signer.service")


def test_a_unit_without_one_command_is_refused() -> None:
    with pytest.raises(ValueError, match="one ExecStart"):
        parse("x", "[Service]\nType=notify\n")


@pytest.mark.parametrize(("text", "seconds"), [("20", 20), ("500ms", 0.5), ("1min 30s", 90), ("2h", 7200), ("1.5s", 1.5)])
def test_time_spans(text: str, seconds: float) -> None:
    assert span_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "soon", "5 s or so"])
def test_a_wrong_time_span_is_refused(text: str) -> None:
    with pytest.raises((ValueError, KeyError)):
        span_s(text)


def test_only_whole_folders_are_mapped() -> None:
    folders = {"/opt/skerry": "/tmp/demo/opt", "/etc/skerry": "/tmp/demo/etc"}
    argv = ("/opt/skerry/bin/x", "--config", "/etc/skerry/x.toml", "/opt/skerry-other", "run")
    assert mapped(argv, folders) == ("/tmp/demo/opt/bin/x", "--config", "/tmp/demo/etc/x.toml", "/opt/skerry-other", "run")


def test_an_asked_stop_is_never_undone() -> None:
    assert after_end(unit(), Run(0.0), 5.0, 0, asked=True).delay_s is None


@pytest.mark.parametrize(
    ("restart", "returncode", "again"), [("always", 0, True), ("on-failure", 0, False), ("on-failure", 1, True), ("no", 1, False)]
)
def test_restart_rules(restart: str, returncode: int, again: bool) -> None:
    assert (after_end(unit(restart=restart), Run(0.0), 60.0, returncode, asked=False).delay_s is not None) == again


@given(st.lists(st.floats(0, 100), min_size=1, max_size=60))
def test_back_off_grows_with_quick_ends_only_and_is_bounded(lives_s: list[float]) -> None:
    quick_ends, previous_s = 0, 0.0
    for life_s in lives_s:
        again = after_end(unit(), Run(0.0, quick_ends=quick_ends), life_s, 1, asked=False)
        assert again.delay_s is not None
        assert unit().restart_s <= again.delay_s <= CAP_S
        if life_s < QUICK_S:
            assert again.delay_s >= previous_s or quick_ends == 0
        else:
            assert again.delay_s == unit().restart_s
        quick_ends, previous_s = again.quick_ends, again.delay_s


def test_first_restart_comes_after_restart_sec() -> None:
    assert after_end(unit(), Run(0.0), 1.0, -9, asked=False).delay_s == 0.5


def test_overdue_start_and_overdue_watchdog_have_their_names() -> None:
    silent, ready = Run(100.0), Run(100.0, ready_s=101.0, fed_s=110.0)
    assert deadline_s(unit(), silent) == 190.0
    assert overdue(unit(), silent, 189.9) == ""
    assert overdue(unit(), silent, 190.0) == supervision.START_REASON
    assert deadline_s(unit(), ready) == 200.0
    assert overdue(unit(), ready, 199.9) == ""
    assert overdue(unit(), ready, 200.0) == supervision.WATCHDOG_REASON
    assert overdue(unit(watchdog_s=None), ready, 1e9) == ""


def test_who_is_after_another_is_stopped_before_it() -> None:
    units = {
        "control": unit(name="skerry-control", after=("skerry-signer.service",)),
        "signer": unit(name="skerry-signer", after=()),
        "agent-1": unit(name="skerry-agent", after=()),
        "build": unit(name="skerry-build", after=("skerry-control.service",)),
    }
    order = stop_order(units)
    assert sorted(order) == sorted(units)
    assert order.index("build") < order.index("control") < order.index("signer")


def test_a_circle_of_after_ends() -> None:
    circle = {"a": unit(name="a", after=("b.service",)), "b": unit(name="b", after=("a.service",))}
    assert sorted(stop_order(circle)) == ["a", "b"]
