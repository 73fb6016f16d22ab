"""Processes and threads; swap devices; counters."""

from __future__ import annotations

from shared.detectors.effects import End, Memory
from shared.port.struct import Stat
from shared.scenario import keys
from shared.scenario.model import VM_MAX_ADDRESS, VM_MIN_ADDRESS
from shared.scenario.steps.errnos import errno
from shared.scenario.steps.memory import IN, OfProcess
from shared.scenario.steps.step import BOTH, Args, Call, Key, Where, leaves_memory_alone, step
from shared.uvm.param import SWAP_OFF, SWAP_ON
from shared.uvm.proc import exit1, fork1, proc_setup, sys_pause, sys_wait
from shared.uvm.structs import Uvmexp, uvmexp
from shared.uvm.swapctl import sys_swapctl

CALLS, TESTS = "system calls", "of tests"
COUNTERS = tuple(name for name, counter in Uvmexp.fields.items() if isinstance(counter, Stat) or counter.hint)
CPU = Key("cpu", keys.CPU)


@step("process", TESTS, Where.SETUP, (Key("as", keys.NEW_PROCESS), CPU))
class MakeProcess(Args):
    """Make a process with one thread of the same name."""

    as_: str
    cpu: int

    def perform(self, call: Call) -> int | str:
        proc_setup(call.procs[self.as_], VM_MIN_ADDRESS, VM_MAX_ADDRESS, max(call.threads.get(self.as_, 0), 1))
        return 0

    def effect(self, memory: Memory, proc: str) -> None:
        memory.make_space(self.as_)


@step("thread", TESTS, Where.SETUP, (IN, Key("as", keys.NEW_THREAD), CPU))
class MakeThread(OfProcess):
    """Add a thread to a process."""

    as_: str
    cpu: int

    effect = leaves_memory_alone

    def perform(self, call: Call) -> int | str:
        return 0  # its process was made with so many


@step(
    "fork", CALLS, Where.PROGRAM,
    (Key("as", keys.NEW_CHILD), Key("program", keys.CHILD_PROGRAM), Key("cpu", keys.CPU, optional=True)),
)  # fmt: skip
class Fork(Args):
    """Make a child process: fork(2). The child has the region names that its parent has at the fork.

    Keys:
        cpu: the CPU of the child; default: the parent's CPU.
    """

    as_: str
    cpu: int

    def perform(self, call: Call) -> int | str:
        return errno(fork1(call.me, call.procs[self.as_]))

    def effect(self, memory: Memory, proc: str) -> End | None:
        return memory.fork(proc, self.as_)


@step("exit", CALLS, Where.PROGRAM, ends=True)
class Exit(Args):
    """End the thread: exit(2). The process ends with its last thread. The end of a program does the same."""

    def perform(self, call: Call) -> int | str:
        exit1(call.me)
        return 0

    def effect(self, memory: Memory, proc: str) -> End | None:
        return memory.exit(proc)


@step("wait", CALLS, Where.PROGRAM, (Key("for", keys.CHILD),))
class Wait(Args):
    """Wait until a child has ended: waitpid(2)."""

    for_: str

    effect = leaves_memory_alone

    def perform(self, call: Call) -> int | str:
        return errno(sys_wait(call.procs[self.for_]))


@step("pause", CALLS, Where.PROGRAM, ends=True)
class Pause(Args):
    """End the program but not the thread: pause(2). The thread sleeps, and keeps its memory, to the end of the run."""

    effect = leaves_memory_alone

    def perform(self, call: Call) -> int | str:
        sys_pause(call.me)
        return 0


@step(
    "swapctl", CALLS, BOTH,
    (IN, Key("do", keys.choice("command", {"on": True, "off": False}, field="on")), Key("device", keys.SWAP_DEVICE)),
)  # fmt: skip
class Swapctl(OfProcess):
    """Begin or end swapping to a device: swapctl(2). All devices are on when the machine boots.

    Keys:
        do: on: begin; off: end, and read the device's pages back into memory.
    """

    on: bool
    device: int
    priority: int

    effect = leaves_memory_alone

    def perform(self, call: Call) -> int | str:
        return errno(sys_swapctl(call.me, SWAP_ON if self.on else SWAP_OFF, self.device, self.priority))

    def foresee(self, memory: Memory) -> None:
        memory.may_lack_pages = True


@step("count", TESTS, Where.PROGRAM, (Key("of", keys.choice("counter", COUNTERS)),), system_call=False)
class Count(Args):
    """Return a counter of uvmexp.

    An event counter, such as `faults`, counts events of the thread's own CPU since the run began. A state counter, such
    as `free`, has its present value; `pdpageouts` counts since boot.

    Keys:
        of: the counter's name.
    """

    of: str

    effect = leaves_memory_alone

    def perform(self, call: Call) -> int | str:
        return int(getattr(uvmexp, self.of))
