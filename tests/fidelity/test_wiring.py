"""Locked memory and raw I/O, while others lend, copy or replace the pages.

Each page is unwired as often as it was wired, which the invariants count when a run ends.

What is wired stays wired, whoever else has the memory; what a device moves goes to the page that the program sees.
"""

from __future__ import annotations

from typing import Any

import pytest

from cluster.search import make
from tests.kit import answers, scene


def outcomes(setup: str, machine: str = "", schedules: int = 120, **programs: str) -> list[dict[str, Any]]:
    """What the steps with `into` answered, under many schedules; nothing is found wrong in any."""
    inside = f"cpus: 2, frames: 24, swap_slots: 16, page_size: 64, disk: 6{machine}"
    setup = f"file: {{as: F, pages: 2, words: [11, 12]}}\nprocess: {{as: A, cpu: 0}}\n{setup}"
    searches = [(make(strategy, 0, 3), schedules // 2) for strategy in ("random", "pct")]
    return [results for results, _ in answers(scene(programs, setup, inside), *searches)]


THREAD = "thread: {in: A, as: A2, cpu: 1}"
BUFFER = """mmap: {in: A, as: buf, pages: 1}
            write: {in: A, at: "buf[0]", value: 1}"""
SHARED_ANON = """mmap: {in: A, as: buf, pages: 1, flags: [shared, anon]}
                 write: {in: A, at: "buf[0]", value: 1}"""
TWO_MAP_A_FILE = """mmap: {in: A, as: map, pages: 2, file: F, flags: [shared]}
                    process: {as: B, cpu: 1}
                    mmap: {in: B, as: map, pages: 2, file: F, flags: [shared]}"""
LEND_AND_WRITE = """loan: {{at: "{0}", pages: 1, to: {1}, as: L, into: lent}}
                    write: {{at: "{0}", value: 3}}
                    unloan: {{of: L}}"""
BORROWERS = pytest.mark.parametrize("to", ["page", "anon"])


def child(name: str, *steps: str) -> str:
    return f"fork: {{as: {name}, cpu: 1, program: [{', '.join(f'{{{step}}}' for step in steps)}]}}"


# -- a page is replaced that mlock has counted, and not wired yet ----------------------------------


def test_a_thread_writes_while_another_one_locks() -> None:
    """The page is copied, since a child has it; mlock has counted its entry already."""
    write_all = "\n".join(f'write: {{in: A, at: "buf[{page}]", value: {page}}}' for page in range(3))
    seen = outcomes(
        f"""{THREAD}
            mmap: {{in: A, as: buf, pages: 3}}
            {write_all}""",
        A=f"""{child("C", "barrier: {name: done}")}
              barrier: {{name: go}}
              mlock: {{at: "buf[0]", pages: 3}}
              munlock: {{at: "buf[0]", pages: 3}}
              barrier: {{name: done}}
              wait: {{for: C}}
              read: {{at: "buf[2]", into: r}}""",
        A2="""barrier: {name: go}
              write: {at: "buf[2]", value: 9}""",
    )
    assert {outcome["r"] for outcome in seen} <= {2, 9} and any(outcome["r"] == 9 for outcome in seen)


def test_a_thread_lends_and_writes_while_another_one_locks() -> None:
    """Memory that is wired is not lent (uvm_loananon says so); what the thread wrote is what it reads, either way."""
    seen = outcomes(
        f"""{THREAD}
            mmap: {{in: A, as: buf, pages: 2, file: F, flags: [private]}}""",
        A="""mlock: {at: "buf[0]", pages: 2}
             munlock: {at: "buf[0]", pages: 2}""",
        A2=f"""write: {{at: "buf[1]", value: 5}}
               {LEND_AND_WRITE.format("buf[1]", "anon")}
               read: {{at: "buf[1]", into: r}}""",
    )
    assert {(outcome["lent"], outcome["r"]) for outcome in seen} == {(0, 3), ("EFAULT", 3)}


# -- others replace what is locked -----------------------------------------------------------------


def test_a_sharer_forks_and_writes_to_locked_memory() -> None:
    """The child is given its copy at once, so the page stays; and all who share it see the write."""
    seen = outcomes(
        SHARED_ANON,
        A=f"""{child(
            "C", "barrier: {name: locked}", 'minherit: {at: "buf[0]", pages: 1, inherit: copy}',
            'fork: {as: E, cpu: 1, program: [{barrier: {name: written}}, {read: {at: "buf[0]", into: e}}]}',
            'write: {at: "buf[0]", value: 2}', "barrier: {name: written}",
        )}
              mlock: {{at: "buf[0]", pages: 1}}
              barrier: {{name: locked}}
              barrier: {{name: written}}
              count: {{of: faults, into: before}}
              read: {{at: "buf[0]", into: a}}
              count: {{of: faults, into: after}}
              munlock: {{at: "buf[0]", pages: 1, into: unlocked}}""",
    )  # fmt: skip
    for got in seen:
        assert (got["a"], got["e"], got["unlocked"]) == (2, 1, 0)
        assert got["before"] == got["after"], "locked memory takes no fault"


@BORROWERS
def test_what_is_on_loan_is_replaced_when_it_is_locked(to: str) -> None:
    """A child does not take the wiring along; what the parent writes goes to neither the child nor the borrower."""
    seen = outcomes(
        BUFFER,
        A=f"""loan: {{at: "buf[0]", pages: 1, to: {to}, as: L}}
              mlock: {{at: "buf[0]", pages: 1}}
              {child("C", 'write: {at: "buf[0]", value: 5}', 'read: {at: "buf[0]", into: c}')}
              count: {{of: faults, into: before}}
              write: {{at: "buf[0]", value: 2}}
              wait: {{for: C}}
              munlock: {{at: "buf[0]", pages: 1, into: unlocked}}
              kpeek: {{of: L, into: k}}
              unloan: {{of: L}}
              read: {{at: "buf[0]", into: r}}""",
    )
    assert {(got["c"], got["unlocked"], got["k"], got["r"]) for got in seen} == {(5, 0, 1, 2)}


@BORROWERS
@pytest.mark.parametrize("whose", ["file", "sharer"])
def test_nobody_lends_what_another_process_has_locked(to: str, whose: str) -> None:
    """Whoever writes to it writes to the page that is locked, whose owner takes no fault."""
    lend = LEND_AND_WRITE.format("map[0]", to)
    a = """mlock: {at: "map[0]", pages: 1}
           barrier: {name: locked}
           barrier: {name: written}
           count: {of: faults, into: before}
           read: {at: "map[0]", into: r}
           count: {of: faults, into: after}
           munlock: {at: "map[0]", pages: 1, into: unlocked}"""
    if whose == "file":
        seen = outcomes(TWO_MAP_A_FILE, A=a, B=f"barrier: {{name: locked}}\n{lend}\nbarrier: {{name: written}}")
    else:
        steps = [step.strip() for step in lend.splitlines()]
        forks = child("C", "barrier: {name: locked}", *steps, "barrier: {name: written}")
        seen = outcomes(SHARED_ANON.replace("buf", "map"), A=f"{forks}\n{a}")
    assert {(got["lent"], got["unlocked"], got["r"]) for got in seen} == {("EFAULT", 0, 3)}
    assert all(got["before"] == got["after"] for got in seen)


def test_what_was_borrowed_may_be_mapped_elsewhere_though_it_is_locked_since() -> None:
    """It was replaced then, so the wiring is not in two places."""
    seen = outcomes(
        BUFFER,
        A="""loan: {at: "buf[0]", pages: 1, to: anon, as: L}
             mlock: {at: "buf[0]", pages: 1}
             map_loan: {of: L, as: new, pages: 1, into: mapped}
             write: {at: "new[0]", value: 7}
             read: {at: "buf[0]", into: r}
             munlock: {at: "buf[0]", pages: 1, into: unlocked}
             unloan: {of: L}""",
    )
    assert {(got["mapped"], got["unlocked"], got["r"]) for got in seen} == {(0, 0, 1)}


def test_a_page_that_others_have_locked_too_is_unwired_in_the_pmap() -> None:
    """munlock makes the translation an ordinary one, for which this MMU has little room."""
    seen = outcomes(
        f"""{TWO_MAP_A_FILE}
            mmap: {{in: A, as: other, pages: 2}}""",
        ", mmu: {unwired_mappings: 1}",
        A="""mlock: {at: "map[1]", pages: 1}
             barrier: {name: both}
             munlock: {at: "map[1]", pages: 1}
             write: {at: "other[0]", value: 1}
             count: {of: faults, into: before}
             read: {at: "map[1]", into: r}
             count: {of: faults, into: after}
             barrier: {name: looked}""",
        B="""mlock: {at: "map[1]", pages: 1}
             barrier: {name: both}
             barrier: {name: looked}
             munlock: {at: "map[1]", pages: 1, into: unlocked}""",
    )
    assert {(got["after"] - got["before"], got["unlocked"]) for got in seen} == {(1, 0)}


# -- others replace what a device is at work on ----------------------------------------------------


@BORROWERS
@pytest.mark.parametrize("do", ["read", "write"])
def test_memory_is_not_lent_while_a_device_is_at_work_on_it(to: str, do: str) -> None:
    """Neither does the program lose what is read, nor does the device use a page that is free."""
    seen = outcomes(
        f"""{THREAD}
            {BUFFER}""",
        A=f"""physio: {{do: {do}, at: "buf[0]", pages: 1, block: 0, into: p}}
              read: {{at: "buf[0]", into: r}}""",
        A2=f"""loan: {{at: "buf[0]", pages: 1, to: {to}, as: L, into: lent}}
               write: {{at: "buf[0]+8", value: 2}}
               unloan: {{of: L, into: back}}""",
    )
    assert {(got["p"], got["lent"], got["back"], got["r"]) for got in seen} == {(0, 0, 0, 11 if do == "read" else 1)}


@BORROWERS
def test_a_page_of_a_file_is_not_lent_while_a_device_is_at_work_on_it(to: str) -> None:
    seen = outcomes(
        TWO_MAP_A_FILE,
        A="""physio: {do: write, at: "map[1]", pages: 1, block: 5, into: p}
             mlock: {at: "map[1]", pages: 1}
             munlock: {at: "map[1]", pages: 1, into: unlocked}""",
        B=LEND_AND_WRITE.format("map[1]", to),
    )
    assert {(got["p"], got["unlocked"]) for got in seen} == {(0, 0)}
    assert {got["lent"] for got in seen} == {0, "EFAULT"}, "not while the page is locked either"


@BORROWERS
def test_raw_io_breaks_the_loan_of_its_buffer(to: str) -> None:
    """Also if it only reads the memory, and the mapping is for reading only."""
    seen = outcomes(
        "mmap: {in: A, as: map, pages: 2, prot: r, file: F, flags: [shared]}",
        A=f"""loan: {{at: "map[1]", pages: 1, to: {to}, as: L}}
              physio: {{do: write, at: "map[1]", pages: 1, block: 5, into: p}}
              fwrite: {{at: "F[1]", value: 4}}
              kpeek: {{of: L, into: k}}
              unloan: {{of: L}}
              read: {{at: "map[1]", into: r}}""",
        schedules=20,
    )  # fmt: skip
    assert {(got["p"], got["k"], got["r"]) for got in seen} == {(0, 12, 4)}


def test_a_sharer_forks_and_writes_while_a_device_is_at_work() -> None:
    """The child is given its copy at once, and what the device reads goes where all who share the memory see it."""
    fork = 'fork: {as: E, cpu: 1, program: [{read: {at: "buf[0]"}}]}'
    seen = outcomes(
        SHARED_ANON,
        A=f"""physio: {{do: write, at: "buf[0]", pages: 1, block: 0}}
              {child(
                  "C", 'minherit: {at: "buf[0]", pages: 1, inherit: copy}', "barrier: {name: go}", fork,
                  'write: {at: "buf[0]+8", value: 2}',
              )}
              write: {{at: "buf[0]", value: 8}}
              barrier: {{name: go}}
              physio: {{do: read, at: "buf[0]", pages: 1, block: 0, into: p}}
              read: {{at: "buf[0]", into: r}}""",
        schedules=400,
    )  # fmt: skip
    assert {(got["p"], got["r"]) for got in seen} == {(0, 1)}


# -- lending that fails, or is given up ------------------------------------------------------------


def test_a_page_that_cannot_be_lent_is_put_on_a_queue() -> None:
    """There is no anon for it; it had just been read from the file."""
    seen = outcomes(
        """mmap: {in: A, as: map, pages: 2, file: F, flags: [shared]}
           mmap: {in: A, as: buf, pages: 4}
           write: {in: A, at: "buf[0]", value: 1}
           write: {in: A, at: "buf[1]", value: 1}
           write: {in: A, at: "buf[2]", value: 1}
           write: {in: A, at: "buf[3]", value: 1}""",
        ", anons: 4",
        A="""loan: {at: "map[0]", pages: 1, to: anon, as: L, into: lent}
             pause: {}""",
        schedules=10,
    )
    assert {got["lent"] for got in seen} == {"EFAULT"}
