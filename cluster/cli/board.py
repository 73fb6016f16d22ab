"""Lines about something that goes on: in place on a terminal, else written now and then."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from cluster.cli.output import STEP_EVERY_S, Output, coloured, fit, shown

#: seconds between two looks on a terminal
REFRESH_S = 0.5
#: lines that are written where there is no terminal come ever more seldom, up to this
SELDOM_S = 60.0


class Board:
    """The lines, while something goes on.

    Attributes:
        next_s: second of it in which they are due again.
    """

    def __init__(self, output: Output):
        self.output = output
        self.next_s = STEP_EVERY_S
        self.live: Any = None

    @property
    def in_place(self) -> bool:
        """Are old lines replaced?"""
        return self.output.err.isatty() and os.environ.get("TERM") != "dumb"

    def is_due(self, seconds: float) -> bool:
        """Is it time to say something, so many seconds after it has begun?"""
        return seconds >= self.next_s

    def show(self, seconds: float, lines: Sequence[str]) -> None:
        """Say these lines."""
        if not self.in_place:
            self.next_s = seconds + min(SELDOM_S, max(STEP_EVERY_S, seconds / 2))
            for line in lines:
                self.output.note(line)
            return
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        self.next_s = seconds + REFRESH_S
        if self.live is None:
            console = Console(file=self.output.err, no_color=not coloured(self.output.err), highlight=False)
            self.live = Live(console=console, transient=True, auto_refresh=False, redirect_stdout=False,
                             redirect_stderr=False)  # fmt: skip
            self.live.start()
        text = "\n".join(fit(shown(line, self.output.err), self.output.err) for line in lines)
        self.live.update(Text(text, style="dim", no_wrap=True, overflow="ellipsis"), refresh=True)

    def show_soon(self, seconds: float, lines: list[str]) -> float:
        """Say these lines, if there are any; returns how many seconds later they are due again."""
        if lines:
            self.show(seconds, lines)
        return self.next_s - seconds

    def close(self) -> None:
        """It has ended: nothing of what was shown in place stays."""
        if self.live is not None:
            self.live.stop()
            self.live = None
        self.next_s = STEP_EVERY_S
