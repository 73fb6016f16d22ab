"""Page loans: a process lends pages to the kernel; any thread may use a loan, before or after the lender has ended."""

from __future__ import annotations

from dataclasses import dataclass

from shared.detectors.effects import End, Memory
from shared.port.port import here
from shared.scenario import keys
from shared.scenario.steps.errnos import errno
from shared.scenario.steps.memory import RANGE, OfRange
from shared.scenario.steps.step import BOTH, Args, Call, Key, Plain, Where, leaves_memory_alone, step
from shared.uvm.loan import loan_map, loan_peek, loan_return, loan_take
from shared.uvm.param import UVM_LOAN_TOANON, UVM_LOAN_TOPAGE
from shared.uvm.proc import curmap_of
from shared.uvm.structs import Loan

FAMILY = "page loans"
OF = Key("of", keys.LOAN)
LOANS: dict[str, Plain] = {"anon": UVM_LOAN_TOANON, "page": UVM_LOAN_TOPAGE}
TO = Key("to", keys.choice("borrower", LOANS, field="flags"))


@dataclass(frozen=True, slots=True, kw_only=True)
class OfLoan(Args):
    """A step on lent pages."""

    loan: str
    number: int
    page: int = 0


@step("loan", FAMILY, BOTH, (*RANGE, TO, Key("as", keys.NEW_LOAN)))
class Lend(OfRange):
    """Lend pages of the process to the kernel.

    Keys:
        to: page: lend the pages; anon: lend their anons, which map_loan can map.
    """

    flags: int
    loan: str
    number: int
    page: int = 0

    def perform(self, call: Call) -> int | str:
        return errno(loan_take(Loan.at(self.number), curmap_of(call.me), self.at, self.npages, self.flags))

    def effect(self, memory: Memory, proc: str) -> End | None:
        return memory.lend(proc, memory.pages(self.at, self.length), self.loan)

    def foresee(self, memory: Memory) -> None:
        memory.make_loan(self.loan, self.length // memory.page_size)


@step("unloan", FAMILY, Where.PROGRAM, (OF,))
class Unloan(OfLoan):
    """Return all pages of a loan."""

    effect = leaves_memory_alone

    def perform(self, call: Call) -> int | str:
        return errno(loan_return(Loan.at(self.number)))


@step("map_loan", FAMILY, Where.PROGRAM, (OF, Key("as", keys.NEW_REGION), Key("pages", keys.LOAN_PAGES)))
class MapLoan(Args):
    """Map borrowed anons in the process, as private memory."""

    as_: str
    at: int
    length: int
    loan: str
    number: int
    page: int = 0

    def perform(self, call: Call) -> int | str:
        npages = self.length // here.port.page_size
        return errno(loan_map(Loan.at(self.number), curmap_of(call.me), self.at, npages))

    def effect(self, memory: Memory, proc: str) -> End | None:
        return memory.map_loan(proc, memory.pages(self.at, self.length), self.loan)


@step("kpeek", FAMILY, Where.PROGRAM, (OF, Key("page", keys.LOAN_PAGE, optional=True, default=0)))
class Kpeek(OfLoan):
    """Read the first word of a lent page in the kernel. Returns its value."""

    def perform(self, call: Call) -> int | str:
        error, word = loan_peek(Loan.at(self.number), self.page)
        return errno(error) or word

    def effect(self, memory: Memory, proc: str) -> End | None:
        return memory.peek(self.loan, self.number, self.page)
