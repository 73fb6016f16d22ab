"""Runs the steps of a scenario's thread, one system call or access after another; or a user's function, as its thread.

Rules:

- Between two steps the thread is in user mode: another thread of its CPU may go first.
- A step returns a value, 0, or the name of an errno or signal. After a refused
  access the program continues, as in a litmus test.
- The end of a program ends its thread, also without `exit`.
- Setup steps must succeed; a setup step that fails is a mistake of the scenario.

shared/scenario/steps has the steps.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Mapping
from typing import NoReturn

from shared.errors import PortDead, ProjectBug, UserMistake
from shared.port.port import here
from shared.program.functions import KIND, resolve, words_of
from shared.scenario.model import Handler, Lwp, Scenario
from shared.scenario.steps.kernel import Barrier, Kvar, Litmus, Meet
from shared.scenario.steps.step import Args, Call, Refused
from shared.uvm.init import uvm_init
from shared.uvm.param import SIDL
from shared.uvm.proc import exit1
from shared.uvm.structs import Loan, Proc, Shm


def run_handler(handler: Handler) -> None:
    """What a device's interrupt runs, each time."""
    ctx = here.port.cur
    call = Call(None, interrupt=True)
    here.port.enter(f"{handler.name.rstrip('0123456789')}intr")
    for index, step in enumerate(handler.steps):
        result = step.args.perform(call)
        ctx.results.append({"step": index, "op": step.op, "result": result, "into": step.into})
    here.port.exit()


def run_program(lwp: Lwp, procs: Mapping[str, Proc]) -> None:
    """Run a thread's program to its end; results go to the context's `results`.

    Args:
        procs: every process of the scenario by name.
    """
    ctx = here.port.cur
    me = procs[lwp.proc]
    call = Call(me, procs)
    for index, step in enumerate(lwp.program):
        if index:
            here.port.userret()
        args, op = step.args, step.op
        here.port.called(args)
        result = _syscall(args, call) if args.system_call else args.perform(call)
        here.port.returned(op, result)
        ctx.results.append({"step": index, "op": op, "result": result, "into": step.into})
        if args.ends:
            return
    here.port.kernel_proc_lock("syscall")
    exit1(me)
    here.port.kernel_proc_unlock()


def _syscall(args: Args, call: Call) -> int | str:
    """Perform a step in the kernel: on a machine with the big lock, with that held except in sleeps."""
    here.port.kernel_proc_lock("syscall")
    result = args.perform(call)
    here.port.kernel_proc_unlock()
    return result


def run_function(reference: str) -> None:
    """What a thread runs. An assertion of its own that fails is a finding; any other error is the user's mistake."""
    function = resolve(reference)
    here.port.enter(function.__name__)
    try:
        function()
    except (PortDead, ProjectBug, UserMistake):
        raise
    except AssertionError as wrong:
        here.port.report(KIND, words_of(function, wrong))
    except Exception as wrong:
        if here.port.cur.cpu in here.port.stale | here.port.passed:  # what a kernel would meet: a trap
            raise
        frame = traceback.extract_tb(wrong.__traceback__)[-1]
        raise UserMistake(f"{type(wrong).__name__}: {wrong}"[:300], file=frame.filename, line=frame.lineno) from None
    here.port.exit()


# -- setup -------------------------------------------------------------------------


def run_init(scenario: Scenario) -> None:
    """Start UVM; the first thing that context `boot` runs."""
    config = scenario.machine
    uvm_init(
        config.frames,
        config.anons,
        [(device.slots, device.priority) for device in config.swap_devices],
        reserve_pagedaemon=config.reserve_pagedaemon,
        reserve_kernel=config.reserve_kernel,
        freemin=config.freemin,
        freetarg=config.freetarg,
        kernel=config.kernel,
    )


def run_setup(scenario: Scenario, procs: Mapping[str, Proc], begun: list[int]) -> None:
    """Perform the setup steps; what context `boot` runs when UVM has started.

    Args:
        begun: takes the index of each step, when that begins.

    Raises: UserMistake - a step cannot be done on this machine.
    """
    for proc in procs.values():
        made = here.port.alloc(Proc)
        assert made == proc, "procs are numbered in order of names"
        proc.p_stat = SIDL
        proc.p_vmspace = None
        proc.p_lwps = 0
    for number, name in enumerate(scenario.barriers):
        meeting = here.port.alloc(Barrier)
        assert meeting == Barrier.at(number)
        acts = [step.args for lwp in scenario.lwps for step in lwp.program]
        meeting.b_missing = sum(isinstance(act, Meet) and act.name == name for act in acts)
    for number, _ in enumerate(scenario.words):
        word = here.port.alloc(Litmus)
        assert word == Litmus.at(number)
        word.value = 0
    for number, _ in enumerate(scenario.kvars):
        variable = here.port.alloc(Kvar)
        assert variable == Kvar.at(number)
        variable.address = 0
    for number, _ in enumerate(scenario.segments):
        segment = here.port.alloc(Shm)
        assert segment == Shm.at(number)
        segment.shm_object = None
    for number, _ in enumerate(scenario.loans):
        loan = here.port.alloc(Loan)
        assert loan == Loan.at(number)
        loan.l_flags = 0
        loan.l_npages = 0
        loan.l_result = None
    ctx = here.port.cur
    threads = Counter(lwp.proc for lwp in scenario.lwps)
    for index, step in enumerate(scenario.setup):
        begun.append(index)
        if step.args.process:
            ctx.proc = procs[step.args.process]
        try:
            result = step.args.perform(Call(ctx.proc, procs, threads=threads))
        except Refused as refused:
            _refuse(scenario, index, refused.why, refused.key)
        if result:
            _refuse(scenario, index, f"gave {result}")
    ctx.proc = None


def _refuse(scenario: Scenario, index: int, why: str, key: str = "") -> NoReturn:
    step = scenario.setup[index]
    place = f"setup[{index}].{step.op}" + (f".{key}" if key else "")
    raise UserMistake(f"this setup step {why}", file=scenario.file, line=step.line, field=place)
