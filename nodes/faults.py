"""What a device does wrong, as the machine's configuration has it."""

from __future__ import annotations

from collections.abc import Sequence

from shared.scenario.machine import DeviceFault


class Faults:
    """The faults of one device.

    Attributes:
        matched: for each fault, the number of requests so far that it is about.
        struck: for each fault, the number of those that it made fail or wait.
    """

    def __init__(self, faults: Sequence[DeviceFault] = ()):
        self.faults = faults
        self.reset()

    def reset(self) -> None:
        """No request has come yet."""
        self.matched = [0] * len(self.faults)
        self.struck = [0] * len(self.faults)

    def verdict(self, op: str, slot: int, npages: int) -> tuple[str, str, int]:
        """(name of the error at the start, of that at the end, delay) of a request for `npages` slots or blocks."""
        refused = error = ""
        delay = 0
        for at, fault in enumerate(self.faults):
            if fault.op != op or (fault.slot is not None and not slot <= fault.slot < slot + npages):
                continue
            self.matched[at] += 1
            if self.matched[at] < fault.first or (fault.count and self.matched[at] >= fault.first + fault.count):
                continue
            self.struck[at] += 1
            delay = max(delay, fault.delay)
            if fault.at == "start":
                refused = refused or fault.error
            else:
                error = error or fault.error
        return refused, error, delay
