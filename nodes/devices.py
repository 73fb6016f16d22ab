"""The node of all devices that only interrupt: a network interface, a serial line, a timer.

A machine has this node if its config has `devices:`. `dev_send` gives a device a request,
for instance a packet. The device performs it at once, and raises its interrupt, a context
with the device's name, on the CPU that the scenario gives. The scenario (`interrupts:`)
lists the kernel functions that the interrupt calls.
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
