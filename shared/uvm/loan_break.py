"""Breaking a loan: before a write, the owner of a page on loan gets another page; the borrower keeps the old page.

loan.py has lending, borrowing and the rules; code that writes to pages needs only this module.

Source: uvm_fault.c, uvm_loan.c 1.22 (June 2000).
"""

from __future__ import annotations

from shared.port.port import erratum, kernel
from shared.uvm.page import (
    uvm_lock_pageq,
    uvm_page_unbusy,
    uvm_pageactivate,
    uvm_pagealloc,
    uvm_pagecopy,
    uvm_pagerealloc,
    uvm_unlock_pageq,
)
from shared.uvm.param import PG_CLEAN, PG_FAKE, PQ_ANON, VM_PROT_NONE
from shared.uvm.pmap_page import pmap_page_protect
from shared.uvm.structs import Anon, Page


@kernel(exit="same")
def uvm_loanbreak_anon(anon: Anon, pg: Page) -> Page | None:
    """Give an anon that has a page on loan, or a borrowed one, a page of its own, to be written to.

    Locks:   entry anon, and the page's object if it has one. Returns: same.
    Returns: the new page, active; None - there is no memory, and nothing has changed.
    Source:  uvm_fault.c 1.47, where these lines were.   Differs: the new page is activated
             here; in UVM after pmap_enter(), which may fail, and then it was on no queue (erratum E25).
             All of it is done with the page queues locked, in UVM the new page was given to the anon after that.
    """
    npg = uvm_pagealloc(None, 0, None)
    if npg is None:
        return None
    uvm_pagecopy(pg, npg)  # clears PG_CLEAN
    pmap_page_protect(pg, VM_PROT_NONE)  # a process that has it mapped takes a fault, and gets the new page
    uvm_lock_pageq()
    if pg.uobject is not None:
        pg.loan_count -= 1  # we had borrowed it
    pg.uanon = None
    pg.pqflags &= ~PQ_ANON  # we may have lent it
    npg.uanon = anon
    npg.pqflags = PQ_ANON
    anon.an_page = npg
    if not erratum("uvm_fault.promoted-page-unqueued"):  # the third place of E25
        uvm_pageactivate(npg)
    uvm_unlock_pageq()
    uvm_page_unbusy(npg, npg.flags & ~PG_FAKE)
    return npg


@kernel(exit="same")
def uvm_loanbreak(uobjpage: Page) -> Page | None:
    """Put another page in an object in the place of a page that is on loan, to be written to.

    Locks:   entry the object; the page is BUSY. Returns: same; the new page is BUSY instead, and on no queue, and who
             waited for the old one is woken.
    Returns: the new page; None - there is no memory, and nothing has changed.
    Source:  uvm_fault.c 1.47, where these lines were, and uvm_loan.c, where they are now.
    Differs: the old page is not CLEAN any more: an anon that adopts it must know that its swap has no copy of it.
    """
    uobj = uobjpage.uobject
    assert uobj is not None
    pg = uvm_pagealloc(None, 0, None)
    if pg is None:
        return None
    uvm_pagecopy(uobjpage, pg)  # clears PG_CLEAN
    pmap_page_protect(uobjpage, VM_PROT_NONE)
    flags = uobjpage.flags
    if not erratum("uvm_fault.loan-broken-page-clean"):
        flags &= ~PG_CLEAN
    uvm_page_unbusy(uobjpage, flags)
    uvm_lock_pageq()
    offset = uobjpage.offset
    uvm_pagerealloc(uobjpage, None, 0)
    uvm_pagerealloc(pg, uobj, offset)
    uvm_unlock_pageq()
    pg.flags &= ~PG_FAKE
    return pg
