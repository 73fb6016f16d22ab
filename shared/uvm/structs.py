"""The kernel's structs, field markings included.

Legend, as in the headers of uvm (each letter is resolved per struct):

    o   owner: the lock of the struct itself, or for a page of its object or anon
    p   uvm.pageqlock              f   uvm.fpageqlock (splimp: interrupts allocate)
    a   uvm.afreelock              s   uvm.swap_data_lock
    d   uvm.pagedaemon_lock (splbio)      h   uvm.hashlock (splimp); of a map: its hint_lock
    k   uvm.kentry_lock (splimp)   v   uvm.vmi_list_slock (splhigh)
    l   uvm.uao_list_lock          g   the map's flags_lock
    m   the map's lock: shared to read, exclusive to write; an interrupt-safe map's spins and is only ever exclusive
    const, stat, hint: see shared/port/struct.py

Fields that UVM does not have are marked "(model)"; each says why.

Source: uvm_page.h, uvm_anon.h, uvm_amap.h, uvm_map.h, uvm.h, uvm_extern.h.
"""

from __future__ import annotations

from typing import Any

from shared.port.heap import Heap
from shared.port.struct import (
    Array,
    Field,
    Guard,
    Struct,
    TailQueue,
    field,
    link,
    lockmgr,
    own,
    simplelock,
    stat,
    union,
    via,
)
from shared.uvm.param import AMAP_SHARED, PG_NAMES, PQ_NAMES


class UvmLock(Guard):
    """Guarded by one of the global locks in struct uvm."""

    __slots__ = ()

    def key(self, heap: Heap, obj: Struct) -> int:
        if self.fixed < 0:
            self.fixed = uvm.lock_key(self.lock)
        return self.fixed


class PageOwner(Guard):
    """Guarded by the lock of the page's object, or else of its anon; an ownerless page has none."""

    __slots__ = ("anon", "object")

    def __init__(self) -> None:
        super().__init__("")
        self.follows = True
        self.object, self.anon = via("uobject", "vmobjlock"), via("uanon", "an_lock")

    def key(self, heap: Heap, obj: Struct) -> int:
        key = self.object.key(heap, obj)
        return key if key >= 0 else self.anon.key(heap, obj)


P, F, A, S, D, H = (
    UvmLock(name) for name in ("pageqlock", "fpageqlock", "afreelock", "swap_data_lock", "pagedaemon_lock", "hashlock")
)
KENTRY, VMI_LIST = UvmLock("kentry_lock"), UvmLock("vmi_list_slock")
UAO_LIST = UvmLock("uao_list_lock")


class Page(Struct, kind=1):
    """struct vm_page: one per frame, type-stable; index = frame number.

    Identities: free (PQ_FREE, on page_free) - anon's (uanon, PQ_ANON) - object's
    (uobject, maybe uanon as borrower) - without an owner (neither uobject nor PQ_ANON): its
    owner let go of it while it was on loan, and the last borrower frees it, or the
    anon that borrowed it (uanon) adopts it. PG_BUSY means in transit: the thread that set it
    may use the page without the owner's lock.

    loan_count: loans to the kernel, each of which also wires the page, and the one to
    the anon that borrows it from an object (uanon without PQ_ANON).

    wire_count: map entries that have it wired, device I/Os to it, loans to the kernel.
    io_count (the model's): the device I/Os among them. It grows only with the owner locked, too.
    """

    guards = {"o": PageOwner(), "p": P, "f": F, "h": H}
    bits = {"flags": ("PG_", PG_NAMES), "pqflags": ("PQ_", PQ_NAMES)}
    pageq_next: Field[Page | None] = link("p|f")
    pageq_prev: Field[Page | None] = link("p|f")
    hashq_next: Field[Page | None] = link("h")
    hashq_prev: Field[Page | None] = link("h")
    listq_next: Field[Page | None] = link("o")
    listq_prev: Field[Page | None] = link("o")
    flags: Field[int] = field("o")
    uobject: Field[UvmObject | None] = field("o|p read, o&p write")
    uanon: Field[Anon | None] = field("o|p read, o&p write")
    offset: Field[int] = field("o|p read, o&p write")
    wire_count: Field[int] = field("p")
    io_count: Field[int] = field("p")
    pqflags: Field[int] = field("p|f")
    loan_count: Field[int] = field("o|p read, o&p write")
    owner_tag: Field[str | None] = field("o")  # UVM_PAGE_TRKOWN: why it is busy

    @property
    def frame(self) -> int:
        """VM_PAGE_TO_PHYS in frames: constant, so no operation."""
        return self.index


class PageQueue(Struct, kind=2):
    """A pglist under pageqlock: page_active, page_inactive_swp, page_inactive_obj."""

    guards = {"p": P}
    tqh_first: Field[Page | None] = link("p")
    tqh_last: Field[Page | None] = link("p")


class FreeQueue(Struct, kind=3):
    """The free list, under fpageqlock."""

    guards = {"f": F}
    tqh_first: Field[Page | None] = link("f")
    tqh_last: Field[Page | None] = link("f")


class UvmObject(Struct, kind=17, name="uobj"):
    """struct uvm_object: memory that can be mapped, a list of pages by their offsets, and who pages it."""

    guards = {"o": own("vmobjlock")}
    vmobjlock = simplelock("uobj")
    pgops: Field[int] = field("const")  # which pager: one of the numbers UVM_PGOPS_* in param.py
    memq_first: Field[Page | None] = link("o")
    memq_last: Field[Page | None] = link("o")
    uo_npages: Field[int] = field("o")
    uo_refs: Field[int] = field("o")  # or UVM_OBJ_KERN
    pager: Field[Any] = field("const")  # (model) the Vnode or Aobj; in UVM the object is the first thing in it


class Vnode(Struct, kind=40):
    """struct vnode with its struct uvm_vnode: a file, and its object."""

    guards = {"o": via("u_obj", "vmobjlock")}
    v_lock = lockmgr("vnode")  # of the file's size
    u_obj: Field[UvmObject] = field("const")
    v_block: Field[int] = field("const")  # (model) the first of its blocks on the disk
    v_nblocks: Field[int] = field("const")  # (model) how many it has
    u_flags: Field[int] = field("o")
    u_nio: Field[int] = field("o")  # I/Os in progress
    u_size: Field[int] = field("o")  # of the file, in bytes


class Aobj(Struct, kind=41):
    """struct uvm_aobj: anonymous memory as an object, with a swap slot for each page."""

    guards = {"o": via("u_obj", "vmobjlock"), "l": UAO_LIST}
    swap_slots = ("u_swslots",)
    u_obj: Field[UvmObject] = field("const")
    u_pages: Field[int] = field("const")
    u_flags: Field[int] = field("o")
    u_swslots: Field[AobjSlots] = field("const")
    u_list_next: Field[Aobj | None] = link("l")
    u_list_prev: Field[Aobj | None] = link("l")


class AobjSlots(Array, kind=42, element="o"):
    """u_swslots[]: the swap slot of each page of an aobj; 0: none."""

    guards = {"o": via("u_obj", "vmobjlock")}
    u_obj: Field[UvmObject] = field("const")  # (model) so that elements know their guard


class Shm(Struct, kind=43):
    """struct shmid_ds: a shared memory segment; number i is the scenario's i-th, preallocated."""

    guards = {"o": own("shm_lock")}
    shm_lock = simplelock("shm")  # (model) SysV shared memory ran under the kernel's big lock
    shm_object: Field[UvmObject | None] = field("o")  # an aobj; None: there is no such segment


class Pmap(UvmObject, kind=48, name="pm_obj"):
    """What the kernel has of a struct pmap: its pm_obj, the object of its page-table pages.

    The rest of it is the mmu node's. In C the object is the beginning of struct pmap, and its lock is pm_lock.
    """

    guards = {"o": own("vmobjlock")}
    vmobjlock = simplelock("pmap")
    pgops: Field[int] = field("const")
    memq_first: Field[Page | None] = link("o")
    memq_last: Field[Page | None] = link("o")
    uo_npages: Field[int] = field("o")
    uo_refs: Field[int] = field("o")  # 1; 0 when the pmap has been destroyed


class PageHash(Array, kind=18, element="h"):
    """uvm.page_hash: a bucket's first page."""

    guards = {"h": H}


class Anon(Struct, kind=4):
    """struct vm_anon: one anonymous page, in RAM, in swap, or both; type-stable."""

    guards = {"o": own("an_lock"), "a": A}
    swap_slots = ("an_swslot",)
    an_lock = simplelock("anon")
    an_ref: Field[int] = field("o")
    an_page: Field[Page | None] = field("o")
    an_nxt: Field[Anon | None] = union("an_page", "a", link=True)
    an_swslot: Field[int] = field("o")


class Amap(Struct, kind=5):
    """struct vm_amap: the anons of a range of an address space."""

    guards = {"o": own("am_l")}
    bits = {"am_flags": ("AMAP_", {AMAP_SHARED: "SHARED"})}
    am_l = simplelock("amap")
    am_ref: Field[int] = field("o", hint=True)  # amap_copy reads it unlocked, see there
    am_flags: Field[int] = field("o", hint=True)  # uvmspace_fork reads SHARED unlocked, map write-locked
    am_maxslot: Field[int] = field("o")
    am_nslot: Field[int] = field("o")
    am_nused: Field[int] = field("o")
    am_slots: Field[AmapArray] = field("const")
    am_bckptr: Field[AmapArray] = field("const")
    am_anon: Field[AmapArray] = field("const")
    am_ppref: Field[AmapArray | None] = field("o")  # see amap_pp.py


class AmapArray(Array, kind=6, element="o"):
    """am_slots[], am_bckptr[], am_anon[] or am_ppref[]."""

    guards = {"o": via("amap", "am_l")}
    amap: Field[Amap] = field("const")  # (model) so that elements know their guard


class VmMap(Struct, kind=7):
    """struct vm_map: an address space, a sorted list of entries."""

    guards = {"m": own("lock"), "h": own("hint_lock"), "g": own("flags_lock")}
    lock = lockmgr("map")
    hint_lock = simplelock("map.hint")
    flags_lock = simplelock("map.flags")
    header: Field[VmMapEntry] = field("const")
    nentries: Field[int] = field("m")
    size: Field[int] = field("m")
    pmap: Field[int] = field("const")
    min_offset: Field[int] = field("const")
    max_offset: Field[int] = field("const")
    hint: Field[VmMapEntry] = field("h")
    flags: Field[int] = field("g")
    timestamp: Field[int] = field("m", hint=True)
    physio: Field[PhysBuf | None] = field("g", hint=True)  # (model) device I/O to this map's memory


class VmMapIntrsafe(VmMap, kind=57, name="vmmap_intrsafe"):
    """struct vm_map_intrsafe: a kernel map that interrupts use too. `lock` is its interlock: it spins."""

    guards = {**VmMap.guards, "v": VMI_LIST}
    lock = simplelock("map.intrsafe")
    vmi_list_next: Field[VmMapIntrsafe | None] = link("v")


class VmMapEntry(Struct, kind=8, name="entry"):
    """struct vm_map_entry: one mapping, addresses in bytes."""

    guards = {"m": via("map", "lock"), "k": KENTRY}
    map: Field[VmMap] = field("const")  # (model) so that fields know their guard
    prev: Field[VmMapEntry] = link("m")
    next: Field[VmMapEntry] = link("m")
    free_next: Field[VmMapEntry | None] = union("next", "k", link=True)  # on uvm.kentry_free
    start: Field[int] = field("m")
    end: Field[int] = field("m")
    object: Field[UvmObject | None] = field("m")
    sub_map: Field[VmMap | None] = union("object", "m")
    offset: Field[int] = field("m")  # in the object, in bytes
    etype: Field[int] = field("m")
    protection: Field[int] = field("m")
    max_protection: Field[int] = field("m")
    inheritance: Field[int] = field("m")
    wired_count: Field[int] = field("m")
    aref_amap: Field[Amap | None] = field("m")
    aref_pageoff: Field[int] = field("m")  # in pages
    advice: Field[int] = field("m")


class Vmspace(Struct, kind=9):
    """struct vmspace: what the threads of a process share."""

    vm_map: Field[VmMap] = field("const")


class Proc(Struct, kind=10):
    """struct proc, as much of it as fork, exit and wait need; preallocated per name."""

    guards = {"o": own("p_lock")}
    p_lock = simplelock("proc")
    p_stat: Field[int] = field("o")
    p_vmspace: Field[Vmspace | None] = field("const")
    p_lwps: Field[int] = field("o")  # threads that have not exited


class SwapPri(Struct, kind=52):
    """struct swappri: the swap devices of one priority."""

    guards = {"s": S}
    spi_priority: Field[int] = field("s")
    spi_first: Field[SwapDev | None] = link("s")
    spi_last: Field[SwapDev | None] = link("s")
    spi_next: Field[SwapPri | None] = link("s")


class SwapDev(Struct, kind=11):
    """struct swapdev; sizes in slots. Number i is device i of the machine's configuration."""

    guards = {"s": S}
    swd_flags: Field[int] = field("s")
    swd_priority: Field[int] = field("s")
    swd_npages: Field[int] = field("const")
    swd_npginuse: Field[int] = field("s")
    swd_npgbad: Field[int] = field("s")
    swd_drumoffset: Field[int] = field("const")
    swd_next: Field[SwapDev | None] = link("s")
    swd_prev: Field[SwapDev | None] = link("s")
    swd_slots: Field[SlotArray] = field("const")  # the extent map


class SlotArray(Array, kind=12, element="s"):
    """The extent map of a swap device: bit i of element e is slot 32*e + i of the device; 1 = in use."""

    guards = {"s": S}


class Buf(Struct, kind=13):
    """struct buf of a pageout: in flight, then on uvm.aio_done until the pagedaemon reaps it."""

    guards = {"d": D}
    next: Field[Buf | None] = link("d")
    prev: Field[Buf | None] = link("d")
    error: Field[int] = field("d")
    npages: Field[int] = field("const")
    pages: Field[PageArray] = field("const")
    slot: Field[int] = field("const")  # first swap slot
    vp: Field[Vnode | None] = field("const")  # b_vp: the file, if it is not to swap


class PageArray(Array, kind=14, element="const"):
    """The pages of one pageout cluster."""


class PhysBuf(Struct, kind=28):
    """struct buf of a physio: which user memory the I/O is to, and whether it is done."""

    guards = {"o": own("b_lock"), "g": via("b_map", "flags_lock")}
    b_lock = simplelock("buf")
    b_proc: Field[Proc] = field("const")
    b_map: Field[VmMap] = field("const")
    b_start: Field[int] = field("const")  # user addresses
    b_end: Field[int] = field("const")
    b_status: Field[int] = field("const")  # user address of a word for the status, or 0
    b_next: Field[PhysBuf | None] = link("g")
    b_done: Field[int] = field("o")


class Loan(Struct, kind=63):
    """(model) What a part of the kernel, as a pipe has it, has borrowed; number i is the scenario's i-th loan."""

    guards = {"o": own("l_lock")}
    l_lock = simplelock("loan")
    l_flags: Field[int] = field("o")  # UVM_LOAN_TOANON or UVM_LOAN_TOPAGE; 0: nothing is on loan
    l_npages: Field[int] = field("o")
    l_result: Field[LoanArray | None] = field("o")


class LoanArray(Array, kind=64, element="const"):
    """What uvm_loan() answered: pages, or anons."""


class Kernel(Struct, kind=65):
    """The kernel as a whole: the big lock of kern_lock.c, under which multiprocessor kernels ran from 2000 to 2007.

    In C a spinning lockmgr lock; nothing else is in the struct, and it is never allocated.
    """

    guards = {}
    kernel_lock = simplelock("kernel_lock")


class Uvm(Struct, kind=15):
    """struct uvm: the globals. Locks of the queues, and what they guard."""

    guards = {"p": P, "f": F, "a": A, "s": S, "d": D, "k": KENTRY, "v": VMI_LIST, "l": UAO_LIST}
    pageqlock = simplelock("pageq")
    fpageqlock = simplelock("fpageq")
    hashlock = simplelock("hash")
    afreelock = simplelock("afree")
    swap_data_lock = simplelock("swap_data")
    pagedaemon_lock = simplelock("pagedaemon")
    swap_syscall_lock = lockmgr("swap_syscall")
    kentry_lock = simplelock("kentry")
    vmi_list_slock = simplelock("vmi_list")
    uao_list_lock = simplelock("uao_list")
    pagedaemon: Field[int] = field("d")  # sleep channel
    pagedaemon_waiters: Field[int] = field("d")  # uvm_wait callers that the daemon has not served
    aio_done_first: Field[Buf | None] = link("d")
    aio_done_last: Field[Buf | None] = link("d")
    afree: Field[Anon | None] = field("a")
    nswapdev: Field[int] = field("s", hint=True)
    swap_priority: Field[SwapPri | None] = field("s")  # the first of the list
    page_hash: Field[PageHash] = field("const")
    page_nhash: Field[int] = field("const")  # buckets
    kernel_map: Field[VmMap | None] = field("const")  # None: the machine has no kernel maps
    kmem_map: Field[VmMap | None] = field("const")
    mb_map: Field[VmMap | None] = field("const")
    exec_map: Field[VmMap | None] = field("const")
    kernel_object: Field[UvmObject] = field("const")
    kmem_object: Field[UvmObject] = field("const")
    mb_object: Field[UvmObject] = field("const")
    vmi_list: Field[VmMapIntrsafe | None] = field("v")
    kentry_free: Field[VmMapEntry | None] = field("k")  # map entries for interrupt-safe maps
    uao_list_first: Field[Aobj | None] = link("l")
    uao_list_last: Field[Aobj | None] = link("l")


class Uvmexp(Struct, kind=16):
    """struct uvmexp: exported counters; all in pages unless said otherwise.

    State counters are guarded and kept as UVM keeps them. UVM tests many of
    them without their lock, on purpose: those are hints. Event counters are
    `stat`.
    """

    guards = {"p": P, "f": F, "a": A, "s": S, "d": D}
    npages: Field[int] = field("const")
    free: Field[int] = field("f", hint=True)
    active: Field[int] = field("p", hint=True)
    inactive: Field[int] = field("p", hint=True)
    wired: Field[int] = field("p", hint=True)
    paging: Field[int] = field("p", hint=True)  # in flight, to swap or to a file
    reserve_pagedaemon: Field[int] = field("const")
    reserve_kernel: Field[int] = field("const")
    freemin: Field[int] = field("const")
    freetarg: Field[int] = field("const")
    inactarg: Field[int] = field("p", hint=True)
    wiredmax: Field[int] = field("const")
    pdpageouts: Field[int] = field("p", hint=True)  # an event counter, but programs on other CPUs may look at it
    nanon: Field[int] = field("const")
    nfreeanon: Field[int] = field("a", hint=True)
    swpages: Field[int] = field("s", hint=True)
    swpginuse: Field[int] = field("s", hint=True)
    swpgonly: Field[int] = field("s", hint=True)
    nswget = stat()  # swap reads
    traps = stat()  # faults, and those that only set R or M
    faults = stat()
    fltnoram = stat()
    fltnoanon = stat()
    fltpgwait = stat()
    fltpgrele = stat()
    fltrelck = stat()
    fltrelckok = stat()
    fltanget = stat()
    fltanretry = stat()
    fltamcopy = stat()
    fltnamap = stat()
    fltnomap = stat()
    fltlget = stat()
    fltget = stat()
    flt_anon = stat()
    flt_acow = stat()
    flt_obj = stat()
    flt_prcopy = stat()
    flt_przero = stat()
    pdwoke = stat()
    pdrevs = stat()
    pdfreed = stat()
    pdscans = stat()
    pdanscan = stat()
    pdobscan = stat()
    pdreact = stat()
    pdbusy = stat()
    pdpending = stat()
    pddeact = stat()
    forks = stat()


#: the globals: one of each, at fixed addresses
kernel: Kernel = Kernel.at(0)
uvm: Uvm = Uvm.at(0)
uvmexp: Uvmexp = Uvmexp.at(0)
page_active: PageQueue = PageQueue.at(0)
page_inactive_swp: PageQueue = PageQueue.at(1)
page_inactive_obj: PageQueue = PageQueue.at(2)
page_free: FreeQueue = FreeQueue.at(0)

PAGEQ = TailQueue("tqh_first", "tqh_last", "pageq_next", "pageq_prev")
MEMQ = TailQueue("memq_first", "memq_last", "listq_next", "listq_prev")
SWAPDEVS = TailQueue("spi_first", "spi_last", "swd_next", "swd_prev")
UAO_LIST_Q = TailQueue("uao_list_first", "uao_list_last", "u_list_next", "u_list_prev")
AIO_DONE = TailQueue("aio_done_first", "aio_done_last", "next", "prev")
