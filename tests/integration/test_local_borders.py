"""What a process holds open is seen, and what is not on the list is named; busy ports name their owner."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import LocalFaultError
from deploy.local import proc
from deploy.local.borders import Allowed, strays
from deploy.local.lake import answers, longest_pause
from deploy.local.ports import Ports, check_free

ALLOWED = Allowed(folders=("/x/state", "/x/etc/a.toml"), listens=frozenset({1}), connects=frozenset({2}), unix=("/x/run",))


def test_what_is_listed_is_no_stray() -> None:
    files = ["/x/state/a.db", "/x/state", "/x/etc/a.toml", "/dev/null", "/memfd:arena (deleted)"]
    assert strays(ALLOWED, files, [1], [2], ["/x/run/agent.sock"]) == []


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ((["/x/state2/a.db"], [], [], []), "file /x/state2/a.db"),
        (([], [9], [], []), "listens on 9"),
        (([], [], [1], []), "connected to port 1"),
        (([], [], [], ["/x/runaway/s"]), "serves /x/runaway/s"),
    ],
)
def test_what_is_not_listed_is_named(held: tuple[list[str], list[int], list[int], list[str]], said: str) -> None:
    assert strays(ALLOWED, *held) == [said]


def test_open_things_of_a_real_process_are_seen(tmp_path: Path) -> None:
    served = str(tmp_path / "s.sock")
    with (
        (tmp_path / "held.txt").open("w") as held,
        socket.socket(socket.AF_UNIX) as unix,
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
        server.accept()[0],
    ):
        unix.bind(served)
        unix.listen()
        port = server.getsockname()[1]
        seen = proc.open_things(os.getpid())
        assert held.name in seen.files
        assert port in seen.tcp_listens
        assert served in seen.unix_serves
        assert port in seen.tcp_peers  # the client's half
        assert client.getsockname()[1] not in seen.tcp_peers  # the accepted half


def test_children_and_memory_are_seen() -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in [process.pid for process in proc.tree(os.getpid())]
        assert proc.memory(child.pid).rss_kb >= proc.memory(child.pid).pss_kb > 0
        assert proc.uid(child.pid) == os.getuid()
        child.kill()
    assert proc.memory(child.pid) == proc.Memory(0, 0)


def test_a_busy_port_names_its_owner() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ports = Ports(0, 0, 0, server.getsockname()[1], 0)
        with pytest.raises(LocalFaultError, match=rf"mqtt.*\(pid {os.getpid()}\)") as busy:
            check_free(ports)
        assert busy.value.code == "SETUP_PORT_BUSY"
    check_free(ports)


def test_ports_follow_the_base() -> None:
    assert vars(Ports.from_base(100)) == {"operators": 100, "devices": 101, "enrolment": 102, "mqtt": 103, "mqtt_services": 104}
    assert vars(Ports.from_base(None)) == {"operators": 8484, "devices": 8443, "enrolment": 8444, "mqtt": 8883, "mqtt_services": 8884}


@given(st.lists(st.integers(0, 1000)), st.integers(0, 1000), st.integers(0, 1000))
def test_the_longest_pause_is_never_smaller_than_the_window_without_frames(times: list[int], start: int, length: int) -> None:
    window = (start, start + length)
    seen = longest_pause(times, *window)
    inside = [at for at in times if window[0] <= at <= window[1]]
    assert seen["frames"] == len(inside)
    assert seen["longest_us"] * (len(inside) + 1) >= length


def test_the_longest_pause_looks_over_the_edges() -> None:
    assert longest_pause([0, 10, 90, 100], 20, 80) == {"frames": 0, "longest_us": 80}
    assert longest_pause([0, 10, 20, 30], 10, 20) == {"frames": 2, "longest_us": 10}


def test_what_one_bundle_answered_and_who_came_after_it() -> None:
    rows = [(10, "old", "t1"), (20, "bad", "t2"), (30, "bad", "t3"), (40, "old", "t4"), (50, "old", "t5")]
    assert answers(rows, "bad") == {"newest_us": 50, "rows": 2, "first_utc": "t2", "last_utc": "t3", "next_utc": "t4"}
    assert answers(rows, "never") == {"newest_us": 50, "rows": 0}
    assert answers(rows[:3], "bad")["next_utc"] == "", "nobody yet"
