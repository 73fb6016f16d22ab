"""What uvm_loan.c says of page loans at its head, rule by rule.

A borrower sees what was there when it borrowed, whatever the owner does
afterwards; and the owner never notices.
"""

from __future__ import annotations

import pytest

from tests.fidelity.test_manual_pages import HOG, answers

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
@pytest.mark.parametrize("first", ["lock", "lend"])
def test_locked_memory_stays_locked_though_a_loan_is_broken(to: str, first: str) -> None:
    """uvm_loan.c fears an unexpected effect on wired pages; it would be found when everything is unlocked again."""
    lock, lend = 'mlock: {at: "buf[0]", pages: 2}', f'loan: {{at: "buf[0]", pages: 2, to: {to}, as: L}}'
    steps = [lock, lend] if first == "lock" else [lend, lock]
    got = answers(f"""{TWO}
                      {steps[0]}
                      {steps[1]}
                      write: {{at: "buf[0]", value: 3}}
                      {PEEK}
                      munlock: {{at: "buf[0]", pages: 2, into: unlocked}}
                      unloan: {{of: L}}
                      read: {{at: "buf[0]", into: r0}}""")
    assert (got["k0"], got["k1"], got["unlocked"], got["r0"]) == (1, 2, 0, 3)


@BORROWERS
def test_a_child_of_locked_memory_on_loan_gets_copies(to: str) -> None:
    got = answers(f"""{TWO}
                      mlock: {{at: "buf[0]", pages: 2}}
                      loan: {{at: "buf[0]", pages: 2, to: {to}, as: L}}
                      {FORK.format("buf[1]", "c1")}
                      write: {{at: "buf[1]", value: 6}}
                      wait: {{for: C}}
                      {PEEK}
                      munlock: {{at: "buf[0]", pages: 2}}
                      read: {{at: "buf[0]", into: r0}}""")
    assert (got["k0"], got["k1"], got["c1"], got["r0"]) == (1, 2, 2, 1)


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
