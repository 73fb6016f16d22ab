"""The signals that end a command: Ctrl-C, kill(1), and a terminal that is closed all mean the same.

If our parent ignores some of them, as nohup(1) does, they stay ignored.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
Handler = Callable[[int, FrameType | None], object]


class _Asked:
    """Whether one of them has come."""

    def __init__(self) -> None:
        self.before = False

    def first(self) -> bool:
        """One has come; is it the first?"""
        before, self.before = self.before, True
        return not before


_ASKED = _Asked()


def listen() -> None:
    """From now on each of them is a KeyboardInterrupt.

    timeout(1) sends its signal twice, and the parent of a driver (cluster/cli/parent.py) passes on what the driver may
    have got itself; so only a second Ctrl-C counts, which comes from a keyboard.
    """
    _ASKED.before = False

    def interrupt(number: int, _: object) -> None:
        if _ASKED.first() or number == signal.SIGINT:
            raise KeyboardInterrupt

    for number in ENDING:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, interrupt)


def ignore() -> None:
    """What now comes is not interrupted again."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def restored(handler: Handler | None = None) -> Iterator[None]:
    """Handlers are afterwards as they were before.

    Args:
        handler: until then, of those that are not ignored.
    """
    before = {number: signal.getsignal(number) for number in ENDING}
    try:
        for number, was in before.items():
            if handler is not None and was != signal.SIG_IGN:
                signal.signal(number, handler)
        yield
    finally:
        for number, was in before.items():
            signal.signal(number, was if was is not None else signal.SIG_DFL)


@contextlib.contextmanager
def deferred(notify: Callable[[], None] = lambda: None) -> Iterator[None]:
    """A signal comes into effect when this is over; a second Ctrl-C at once.

    Args:
        notify: called at the first.
    """
    asked = False

    def wait(number: int, _: object) -> None:
        nonlocal asked
        _ASKED.first()
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not asked:
            asked = True
            notify()

    with restored(wait):
        yield
    if asked:
        raise KeyboardInterrupt
