"""The devices: what is sent to one becomes an interrupt, once, of the context that has its name."""

from __future__ import annotations

from nodes.devices import Devices, device_threads
from shared.port.port import SPL_CLOCK, SPL_IMP
from shared.scenario.model import Handler
from shared.wire.messages import Interrupt


def test_each_send_raises_one_interrupt_of_the_device_named() -> None:
    node = Devices("devices", ["net0", "com0"])
    for device in (1, 0, 1):
        assert node.admit("A", "dev_send", device, ()) is None
    assert node.out == [Interrupt("com0", 1), Interrupt("net0", 1), Interrupt("com0", 2)]


def test_its_state_travels() -> None:
    first, other = Devices("devices", ["net0", "com0"]), Devices("devices", ["net0", "com0"])
    first.admit("A", "dev_send", 1, ())
    other.load_image(first.image())
    assert other.sent == [0, 1] and other.out == []
    other.admit("A", "dev_send", 1, ())
    assert first.sent == [0, 1]


def test_a_handler_is_an_interrupt_context_at_its_level() -> None:
    threads = device_threads((Handler("net0", 1, SPL_IMP, ()), Handler("com0", 0, SPL_CLOCK, ())))
    assert [(thread.name, thread.cpu, thread.level, thread.interrupt) for thread in threads] == [
        ("net0", "cpu1", SPL_IMP, True), ("com0", "cpu0", SPL_CLOCK, True),
    ]  # fmt: skip
