"""The send window: credit, silence that doubles, holding when nobody listens."""

from __future__ import annotations

from sync.uplink.window import Delays, SendWindow

S = "dev/live/e"


def window(random: float = 1.0) -> SendWindow:
    return SendWindow(Delays(first_s=10, limit_s=60), lambda: random)


def test_delays_double_up_to_a_limit_and_are_jittered_down_to_half() -> None:
    delays = Delays(first_s=10, limit_s=60)
    assert [delays.after(failures, lambda: 1.0) for failures in range(5)] == [10, 20, 40, 60, 60]
    assert delays.after(10_000, lambda: 0.0) == 30


def test_the_cursor_follows_what_was_sent_and_acks_free_the_credit() -> None:
    sending = window()
    assert sending.cursor(S, 4) == 4
    sending.sent(S, 5, 100, now=0)
    sending.sent(S, 9, 50, now=1)  # a gap: 6..9
    assert (sending.cursor(S, 4), sending.in_flight_bytes) == (9, 150)
    sending.acked({S: 5}, now=2)
    assert (sending.cursor(S, 5), sending.in_flight_bytes, sending.seconds_left(2)) == (9, 50, 10)
    sending.acked({S: 9}, now=3)
    assert (sending.cursor(S, 9), sending.in_flight_bytes, sending.seconds_left(3)) == (9, 0, None)


def test_silence_goes_back_and_doubles_until_there_is_progress() -> None:
    sending = window()
    now = 0.0
    for delay in (10, 20, 40, 60, 60):
        sending.sent(S, 1, 100, now)
        assert not sending.expire(now + delay - 0.001)
        now += delay
        assert sending.expire(now)
        assert (sending.cursor(S, 0), sending.in_flight_bytes) == (0, 0)
    sending.sent(S, 1, 100, now)
    sending.acked({S: 1}, now)
    sending.sent(S, 2, 100, now)
    assert sending.seconds_left(now) == 10


def test_an_ack_without_progress_does_not_move_the_deadline() -> None:
    sending = window()
    sending.sent(S, 5, 100, now=0)
    sending.acked({S: 4}, now=9)
    assert sending.seconds_left(9) == 1


def test_a_refusal_holds_until_the_deadline_or_a_sign_of_life() -> None:
    sending = window()
    sending.sent(S, 5, 100, now=0)
    sending.refused(now=1)
    assert sending.held
    assert sending.expire(10)
    assert not sending.held
    sending.sent(S, 5, 100, now=10)
    sending.refused(now=11)
    sending.acked({S: 4}, now=12)  # ingest is back: it tells where it is
    assert not sending.held
    assert sending.cursor(S, 4) == 4
    assert sending.seconds_left(12) is None


def test_a_refusal_with_nothing_in_flight_ends_too() -> None:
    sending = window()
    sending.refused(now=0)
    assert sending.seconds_left(0) == 10
    assert sending.expire(10)
    assert not sending.held
