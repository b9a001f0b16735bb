"""Stop signals make a socket readable instead of ending the process."""

import os
import signal

import pytest

from sluice.supervision.stop_signals import stop_signals

HANG = 10.0
"""Seconds after which a wait fails the test."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_makes_the_socket_readable(number: signal.Signals) -> None:
    with stop_signals() as stop:
        stop.settimeout(HANG)
        os.kill(os.getpid(), number)
        assert stop.recv(1) == bytes([number])


def test_the_previous_handlers_are_restored() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with stop_signals():
        assert signal.getsignal(signal.SIGTERM) is not before[0]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
