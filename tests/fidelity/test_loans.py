"""What uvm_loan.c says of page loans at its head, rule by rule.

A borrower sees what was there when it borrowed, whatever the owner does
afterwards; and the owner never notices.
"""

from __future__ import annotations

from typing import Any

import pytest

from shared.uvm.param import ENOMEM
from shared.uvm.structs import Anon
from tests.fidelity.test_manual_pages import HOG, answers
from tests.kit import replaced

BORROWERS = pytest.mark.parametrize("to", ["page", "anon"])
TWO = """write: {at: "buf[0]", value: 1}
         write: {at: "buf[1]", value: 2}"""
FORK = """fork: {{as: C, cpu: 1, program: [{{write: {{at: "buf[0]", value: 5}}}}, {{read: {{at: "{}", into: {}}}}}]}}"""
PEEK = """kpeek: {of: L, into: k0}
          kpeek: {of: L, page: 1, into: k1}"""


@BORROWERS
def test_a_loan_is_copy_on_write(to: str) -> None:
    got = answers(f"""{TWO}
                      loan: {{at: "buf[0]", pages: 2, to: {to}, as: L, into: lent}}
                      write: {{at: "buf[1]", value: 3}}
                      {PEEK}
                      unloan: {{of: L, into: back}}
                      read: {{at: "buf[0]", into: r0}}
                      read: {{at: "buf[1]", into: r1}}""")
    assert (got["lent"], got["back"]) == (0, 0)
    assert (got["k0"], got["k1"]) == (1, 2) and (got["r0"], got["r1"]) == (1, 3)


@BORROWERS
def test_memory_that_nobody_has_touched_is_lent_as_zeros(to: str) -> None:
    got = answers(f"""loan: {{at: "buf[0]", pages: 2, to: {to}, as: L, into: lent}}
                      write: {{at: "buf[0]", value: 1}}
                      {PEEK}
                      read: {{at: "buf[0]", into: r0}}""")
    assert (got["lent"], got["k0"], got["k1"], got["r0"]) == (0, 0, 0, 1)


@BORROWERS
def test_all_is_lent_or_nothing(to: str) -> None:
    got = answers(f"""{TWO}
                      munmap: {{at: "buf[2]", pages: 1}}
                      loan: {{at: "buf[0]", pages: 4, to: {to}, as: L, into: lent}}
                      {PEEK}
                      unloan: {{of: L, into: back}}
                      write: {{at: "buf[0]", value: 4, into: w}}""")
    assert (got["lent"], got["k0"], got["back"], got["w"]) == ("EFAULT", "EINVAL", "EINVAL", 0)


@BORROWERS
def test_a_loan_outlives_the_mapping(to: str) -> None:
    """An owner that frees its page only disowns it, and the last borrower frees it."""
    got = answers(f"""{TWO}
                      loan: {{at: "buf[0]", pages: 2, to: {to}, as: L}}
                      munmap: {{at: "buf[0]", pages: 4}}
                      {PEEK}
                      unloan: {{of: L, into: back}}""")
    assert (got["k0"], got["k1"], got["back"]) == (1, 2, 0)


@BORROWERS
def test_a_loan_outlives_the_process(to: str) -> None:
    got = answers(
        f"""{TWO}
                      fork: {{as: C, cpu: 1, program: [{{write: {{at: "buf[0]", value: 8}}}},
                        {{loan: {{at: "buf[0]", pages: 2, to: {to}, as: L}}}}, {{exit: {{}}}}]}}
                      wait: {{for: C}}
                      {PEEK}
                      write: {{at: "buf[1]", value: 9}}
                      kpeek: {{of: L, page: 1, into: again}}
                      unloan: {{of: L}}""".replace(",\n                        ", ", ")
    )
    assert (got["k0"], got["k1"], got["again"]) == (8, 2, 2)


@BORROWERS
def test_a_loan_is_no_share(to: str) -> None:
    """A child forked meanwhile gets its copy, and so does the parent."""
    got = answers(f"""{TWO}
                      loan: {{at: "buf[0]", pages: 2, to: {to}, as: L}}
                      {FORK.format("buf[0]", "c0")}
                      write: {{at: "buf[0]", value: 6}}
                      wait: {{for: C}}
                      {PEEK}
                      read: {{at: "buf[0]", into: r0}}
                      unloan: {{of: L}}""")
    assert (got["k0"], got["k1"], got["c0"], got["r0"]) == (1, 2, 5, 6)


@BORROWERS
def test_what_is_in_swap_can_be_lent(to: str) -> None:
    """To the kernel it is brought in and stays; an anon may go out to swap again."""
    got = answers(
        f"""{TWO}
            {HOG}
            loan: {{at: "buf[0]", pages: 2, to: {to}, as: L, into: lent}}
            {HOG.replace("hog", "hug")}
            {PEEK}
            write: {{at: "buf[0]", value: 7}}
            kpeek: {{of: L, into: again}}
            unloan: {{of: L}}
            read: {{at: "buf[0]", into: r0}}""",
        frames=20,
    )
    assert (got["lent"], got["k0"], got["k1"], got["again"], got["r0"]) == (0, 1, 2, 1, 7)


def test_one_page_can_be_lent_several_times() -> None:
    """Each loan sees the page of its own time."""
    got = answers("""write: {at: "buf[0]", value: 1}
                     loan: {at: "buf[0]", pages: 1, to: page, as: L}
                     loan: {at: "buf[0]", pages: 1, to: page, as: M}
                     loan: {at: "buf[0]", pages: 1, to: anon, as: N}
                     write: {at: "buf[0]", value: 2}
                     loan: {at: "buf[0]", pages: 1, to: page, as: O}
                     unloan: {of: L}
                     write: {at: "buf[0]", value: 3}
                     kpeek: {of: M, into: m}
                     kpeek: {of: N, into: n}
                     kpeek: {of: O, into: o}
                     unloan: {of: N}
                     unloan: {of: M}
                     kpeek: {of: O, into: again}
                     read: {at: "buf[0]", into: r}""")
    assert [got[name] for name in ("m", "n", "o", "again", "r")] == [1, 1, 2, 2, 3]


@BORROWERS
def test_locked_memory_is_not_lent(to: str) -> None:
    """To lend it would be to write-protect it, and uvm_loan.c feared the consequences."""
    got = answers(f"""{TWO}
                      mlock: {{at: "buf[1]", pages: 1}}
                      loan: {{at: "buf[0]", pages: 2, to: {to}, as: L, into: lent}}
                      kpeek: {{of: L, page: 0, into: k}}
                      munlock: {{at: "buf[1]", pages: 1, into: unlocked}}
                      loan: {{at: "buf[0]", pages: 2, to: {to}, as: M, into: again}}
                      {PEEK.replace("L", "M")}
                      unloan: {{of: M}}""")
    assert [got[name] for name in ("lent", "k", "unlocked", "again", "k0", "k1")] == ["EFAULT", "EINVAL", 0, 0, 1, 2]


@BORROWERS
def test_memory_on_loan_that_is_locked_is_replaced(to: str) -> None:
    got = answers(f"""{TWO}
                      loan: {{at: "buf[0]", pages: 2, to: {to}, as: L}}
                      mlock: {{at: "buf[0]", pages: 2}}
                      {FORK.format("buf[1]", "c1")}
                      write: {{at: "buf[0]", value: 3}}
                      wait: {{for: C}}
                      {PEEK}
                      munlock: {{at: "buf[0]", pages: 2, into: unlocked}}
                      unloan: {{of: L}}
                      read: {{at: "buf[0]", into: r0}}""")
    assert (got["k0"], got["k1"], got["c1"], got["unlocked"], got["r0"]) == (1, 2, 2, 0, 3)


def test_pages_of_shared_memory_can_be_lent() -> None:
    """Whoever writes first breaks the loan for all who share the page."""
    got = answers("""mmap: {as: both, pages: 1, flags: [shared, anon]}
                     write: {at: "both[0]", value: 1}
                     loan: {at: "both[0]", pages: 1, to: page, as: L}
                     fork: {as: C, cpu: 1, program: [{write: {at: "both[0]", value: 2}}]}
                     wait: {for: C}
                     read: {at: "both[0]", into: r}
                     kpeek: {of: L, into: k}
                     unloan: {of: L}""")
    assert (got["r"], got["k"]) == (2, 1)


def test_madvise_free_leaves_the_kernel_what_it_has_borrowed() -> None:
    got = answers(f"""{TWO}
                      loan: {{at: "buf[0]", pages: 2, to: page, as: L}}
                      madvise: {{at: "buf[0]", pages: 2, advice: free}}
                      {PEEK}
                      unloan: {{of: L}}""")
    assert (got["k0"], got["k1"]) == (1, 2)


def test_what_cannot_be_peeked_at_says_why() -> None:
    """No page is to be had for what is in swap: that is not an error of the swap device."""

    def no_memory(ufi: Any, amap: Any, anon: Anon) -> int:
        if ufi is not None:
            return int(uvmfault_anonget(ufi, amap, anon))
        anon.an_lock.unlock()
        return ENOMEM

    with replaced("uvmfault_anonget", no_memory) as uvmfault_anonget:
        got = answers(f"""{TWO}
                          loan: {{at: "buf[0]", pages: 1, to: anon, as: L}}
                          kpeek: {{of: L, into: k}}
                          unloan: {{of: L, into: back}}""")
    assert (got["k"], got["back"]) == ("ENOMEM", 0)


# -- pages of objects ------------------------------------------------------------------------


FILE = """file: {as: F, pages: 4, words: [11, 12, 13, 14]}"""
SHARED = "mmap: {as: map, pages: 3, file: F, offset: 1, flags: [shared]}"
PRIVATE = "mmap: {as: map, pages: 3, file: F, offset: 1, flags: [private]}"
SEGMENT = "shm: {as: S, pages: 3}\n mmap: {as: map, pages: 3, shm: S}"


def of_file(program: str, frames: int = 32) -> dict[str, Any]:
    return answers(program, FILE, frames, disk=4)


@BORROWERS
@pytest.mark.parametrize("map", [SHARED, PRIVATE], ids=["shared", "private"])
def test_pages_of_a_file_can_be_lent(to: str, map: str) -> None:
    """Read in for that, if need be."""
    got = of_file(f"""{map}
                      read: {{at: "map[1]"}}
                      loan: {{at: "map[0]", pages: 3, to: {to}, as: L, into: lent}}
                      write: {{at: "map[1]", value: 3}}
                      {PEEK}
                      kpeek: {{of: L, page: 2, into: k2}}
                      read: {{at: "map[1]", into: r1}}
                      fread: {{at: "F[2]", into: f2}}
                      munmap: {{at: "map[0]", pages: 3}}
                      unloan: {{of: L, into: back}}
                      fread: {{at: "F[1]", into: f1}}""")
    assert (got["lent"], got["back"]) == (0, 0)
    assert (got["k0"], got["k1"], got["k2"], got["r1"], got["f1"]) == (12, 13, 14, 3, 12)
    assert got["f2"] == (3 if map == SHARED else 13)


@BORROWERS
def test_a_neighbour_of_a_fault_is_not_mapped_writable_while_on_loan(to: str) -> None:
    got = of_file(f"""{SHARED}
                      loan: {{at: "map[1]", pages: 1, to: {to}, as: L}}
                      write: {{at: "map[0]", value: 5}}
                      write: {{at: "map[1]", value: 6}}
                      kpeek: {{of: L, into: k}}
                      fread: {{at: "F[2]", into: f}}
                      unloan: {{of: L}}""")
    assert (got["k"], got["f"]) == (13, 6)


@BORROWERS
def test_write_to_a_file_breaks_loans_too(to: str) -> None:
    got = of_file(f"""{SHARED}
                      loan: {{at: "map[0]", pages: 1, to: {to}, as: L}}
                      fwrite: {{at: "F[1]", value: 5}}
                      kpeek: {{of: L, into: k}}
                      read: {{at: "map[0]", into: r}}
                      unloan: {{of: L}}""")
    assert (got["k"], got["r"]) == (12, 5)


@BORROWERS
def test_a_loan_outlives_the_file(to: str) -> None:
    """It is truncated, and its object ends."""
    got = of_file(f"""{SHARED}
                      loan: {{at: "map[0]", pages: 2, to: {to}, as: L}}
                      ftruncate: {{file: F, pages: 1}}
                      munmap: {{at: "map[0]", pages: 3}}
                      uncache: {{file: F}}
                      {PEEK}
                      unloan: {{of: L, into: back}}
                      fread: {{at: "F[0]", into: f}}""")
    assert (got["k0"], got["k1"], got["back"], got["f"]) == (12, 13, 0, 11)


@BORROWERS
def test_pages_of_a_segment_can_be_lent(to: str) -> None:
    got = answers(f"""{SEGMENT}
                      write: {{at: "map[0]", value: 1}}
                      loan: {{at: "map[0]", pages: 2, to: {to}, as: L}}
                      write: {{at: "map[0]", value: 5}}
                      write: {{at: "map[1]", value: 6}}
                      {PEEK}
                      munmap: {{at: "map[0]", pages: 3}}
                      shm_remove: {{shm: S}}
                      kpeek: {{of: L, page: 1, into: again}}
                      unloan: {{of: L, into: back}}""")
    assert (got["k0"], got["k1"], got["again"], got["back"]) == (1, 0, 0, 0)


@pytest.mark.parametrize("make", [SEGMENT, SHARED], ids=["segment", "file"])
def test_borrowed_pages_of_objects_can_be_paged_out(make: str) -> None:
    """First to the object, and then to swap, with the anon that adopts it."""
    got = answers(
        f"""{make}
            write: {{at: "map[0]", value: 1}}
            write: {{at: "map[1]", value: 2}}
            loan: {{at: "map[0]", pages: 2, to: anon, as: L}}
            {HOG}
            {HOG.replace("hog", "hug")}
            {PEEK}
            write: {{at: "map[0]", value: 3}}
            munmap: {{at: "hog[0]", pages: 16}}
            {HOG.replace("hog", "heg")}
            kpeek: {{of: L, into: again}}
            read: {{at: "map[0]", into: r0}}
            read: {{at: "map[1]", into: r1}}
            unloan: {{of: L}}""",
        FILE, 20, disk=4,
    )  # fmt: skip
    assert (got["k0"], got["k1"], got["again"], got["r0"], got["r1"]) == (1, 2, 1, 3, 2)


@pytest.mark.parametrize("make", [SEGMENT, SHARED], ids=["segment", "file"])
def test_object_pages_on_loan_that_are_locked_are_replaced(make: str) -> None:
    got = answers(f"""{make}
                      write: {{at: "map[0]", value: 1}}
                      loan: {{at: "map[0]", pages: 1, to: page, as: L}}
                      loan: {{at: "map[1]", pages: 1, to: anon, as: M}}
                      mlock: {{at: "map[0]", pages: 2}}
                      loan: {{at: "map[0]", pages: 1, to: page, as: N, into: lent}}
                      write: {{at: "map[0]", value: 3}}
                      write: {{at: "map[1]", value: 4}}
                      kpeek: {{of: L, into: k}}
                      munlock: {{at: "map[0]", pages: 2, into: unlocked}}
                      unloan: {{of: L}}
                      read: {{at: "map[0]", into: r0}}
                      unloan: {{of: M}}""", FILE, disk=4)  # fmt: skip
    assert (got["lent"], got["k"], got["unlocked"], got["r0"]) == ("EFAULT", 1, 0, 3)


@pytest.mark.parametrize("make", [SEGMENT, SHARED, PRIVATE], ids=["segment", "file", "private"])
def test_borrowed_anons_can_be_given_to_a_process(make: str) -> None:
    """Which has them as memory of its own."""
    got = answers(f"""{make}
                      write: {{at: "map[0]", value: 1}}
                      read: {{at: "map[1]", into: before}}
                      loan: {{at: "map[0]", pages: 2, to: anon, as: L}}
                      map_loan: {{of: L, as: new, pages: 2, into: mapped}}
                      read: {{at: "new[0]", into: n0}}
                      write: {{at: "new[1]", value: 7}}
                      write: {{at: "map[0]", value: 8}}
                      unloan: {{of: L}}
                      write: {{at: "new[0]", value: 9}}
                      write: {{at: "new[1]+8", value: 6}}
                      read: {{at: "map[0]", into: m0}}
                      read: {{at: "map[1]", into: m1}}
                      read: {{at: "new[1]", into: n1}}
                      munmap: {{at: "new[0]", pages: 1}}""", FILE, disk=4)  # fmt: skip
    assert (got["mapped"], got["n0"], got["n1"]) == (0, 1, 7)
    assert (got["m0"], got["m1"]) == (8, got["before"])


@pytest.mark.parametrize("make", [SEGMENT, SHARED], ids=["segment", "file"])
def test_a_process_that_has_a_borrowed_page_may_write_to_it(make: str) -> None:
    """It is the only one to have the anon, and breaks the anon's loan."""
    got = answers(f"""{make}
                      read: {{at: "map[1]", into: before}}
                      loan: {{at: "map[1]", pages: 1, to: anon, as: L}}
                      map_loan: {{of: L, as: new, pages: 1}}
                      unloan: {{of: L}}
                      write: {{at: "new[0]", value: 7}}
                      read: {{at: "map[1]", into: m}}
                      read: {{at: "new[0]", into: n}}
                      write: {{at: "map[1]", value: 8}}
                      read: {{at: "new[0]", into: again}}""", FILE, disk=4)  # fmt: skip
    assert (got["m"], got["n"], got["again"]) == (got["before"], 7, 7)
