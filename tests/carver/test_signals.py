"""Signals: a first one asks for an end, and what it says never lands in the middle of what is being drawn."""

import os
import signal

import pytest

from carver.cli import signals

SAID = "carver: stopping: saving what is done"


@pytest.fixture(autouse=True)
def listening():
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background may have it ignored
    signals.listen()
    yield
    signals._stopping.clear()
    signal.signal(signal.SIGINT, before)


def test_a_first_signal_is_answered_at_once_and_a_second_ends(capfd):
    os.kill(os.getpid(), signal.SIGINT)
    assert signals.stopping()
    assert SAID in capfd.readouterr().err
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_while_lines_are_drawn_speaks_when_they_are(capfd):
    with signals.drawing():
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.stopping()
        assert capfd.readouterr().err == ""
    assert capfd.readouterr().err.count(SAID) == 1
    with signals.drawing():
        pass
    assert capfd.readouterr().err == "", "it is said once"


def test_a_second_signal_while_lines_are_drawn_ends(capfd):
    with pytest.raises(KeyboardInterrupt), signals.drawing():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
    assert SAID in capfd.readouterr().err
