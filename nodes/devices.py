"""The node that is all devices whose only task is to interrupt: a network interface, a serial line, a timer.

A machine has them if its config says `devices:`. `dev_send` gives a device something to
do, a packet for example; it is done at once, and its interrupt, a context of
the device's name, is raised on the CPU that the scenario says. What that interrupt
then does is the scenario's affair (`interrupts:`), in the kernel's own functions.
"""

from __future__ import annotations

from functools import partial

from nodes.cpu import Thread
from nodes.node import Node
from shared.program.run import run_handler
from shared.scenario.model import Handler
from shared.wire.images import DevicesImage
from shared.wire.messages import Interrupt


class Devices(Node):
    """The devices by number.

    Args:
        names: of the devices.

    Attributes:
        sent: how often each has been given something to do.
    """

    kind = "devices"

    def __init__(self, name: str, names: list[str]):
        super().__init__(name)
        self.names = names
        self.sent = [0] * len(names)

    def op_dev_send(self, ctx: str, device: int) -> None:
        """Give the device something to do."""
        self.sent[device] += 1
        self.out.append(Interrupt(self.names[device], self.sent[device]))

    def image(self) -> DevicesImage:
        return {"sent": list(self.sent)}

    def load_image(self, image: DevicesImage) -> None:
        super().load_image(image)
        self.sent = list(image["sent"])


def device_threads(handlers: tuple[Handler, ...]) -> list[Thread]:
    """The interrupt context of every device that has a handler."""
    return [
        Thread(handler.name, f"cpu{handler.cpu}", partial(run_handler, handler), handler.level, interrupt=True)
        for handler in handlers
    ]
