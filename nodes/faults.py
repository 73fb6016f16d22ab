"""The errors and delays of a device, as the machine's configuration gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from shared.scenario.machine import DeviceFault


class Verdict(NamedTuple):
    """What becomes of one request.

    Attributes:
        refused, error: name of the error at the start, and of that at the end; "": none.
        maybe: name of the error with which it may end, if the device's context chooses so.
        delay: how many later requests may overtake it.
    """

    refused: str
    error: str
    maybe: str
    delay: int


NO_FAULT = Verdict("", "", "", 0)


class Faults:
    """The faults of one device.

    Attributes:
        matched: for each fault, the number of requests so far that it is about.
        struck: for each fault, the number of those that it made fail or wait, or that may have failed.
    """

    def __init__(self, faults: Sequence[DeviceFault] = ()):
        self.faults = faults
        self.reset()

    def reset(self) -> None:
        """No request has come yet."""
        self.matched = [0] * len(self.faults)
        self.struck = [0] * len(self.faults)

    def verdict(self, op: str, slot: int, npages: int) -> Verdict:
        """Of a request for `npages` slots or blocks."""
        if not self.faults:
            return NO_FAULT
        refused = error = maybe = ""
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
            elif fault.maybe:
                maybe = maybe or fault.error
            else:
                error = error or fault.error
        return Verdict(refused, error, maybe, delay)
