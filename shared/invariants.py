"""Every invariant of the kernel's state, once: id, sentence, source, check.

An invariant is a pure function of a `Snapshot` of the whole machine and yields
what is wrong, with the struct that it is about. Its stable point is *rest*: no
context is in the kernel, no I/O is in flight, nobody waits. Before that most of
them are broken and restored all the time.

    AMAP   slots and back pointers, references       SWAP   slots against their users, clean pages against slots
    ANON   references, free list                     MAP    entries in order, their amaps large enough
    PAGE   queues, owners, leftovers                 PTE    translations against maps; TLB: against PTEs
    WIRE   wirings recounted                         LOCK   nothing is held
    OBJ    objects' pages, references, contents
    KM     kernel maps, memory of kernel objects
    COUNT  uvmexp recounted                          LEAK   whatever is allocated is in use; PROC: by whom

Rules for this file: a wrong state is what these functions are for, so they
trust nothing: pointers are followed only to live structs of the right kind, and
walks end. One mistake should show under one id, that of the nearest cause: what
one invariant already says, another leaves alone.

Objects here are those of files and of shared memory; page-table pages are PTE's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple, TypeGuard, TypeVar

from shared.errors import Finding
from shared.struct import ANY_GEN, KIND_SHIFT, KINDS, LOCK_SHIFT, Array, Struct, lock_name
from shared.uvm.param import (
    PG_BUSY,
    PG_CLEAN,
    PG_FAKE,
    PG_NAMES,
    PG_RELEASED,
    PG_WANTED,
    PMAP_KERNEL,
    PQ_ACTIVE,
    PQ_ANON,
    PQ_AOBJ,
    PQ_FREE,
    PQ_INACTIVE,
    PQ_NAMES,
    PQ_SWAPBACKED,
    SRUN,
    SWF_INUSE,
    SWSLOT_NONE,
    SZOMB,
    UVM_ET_COPYONWRITE,
    UVM_ET_NEEDSCOPY,
    UVM_ET_SUBMAP,
    UVM_OBJ_INTRSAFE_KERN,
    UVM_OBJ_KERN,
    UVM_PGOPS_AOBJ,
    UVM_PGOPS_VNODE,
    UVM_VNODE_CANPERSIST,
    UVM_VNODE_VALID,
    VM_MAP_BUSY,
    VM_MAP_WANTLOCK,
    VM_PROT_NONE,
    VM_PROT_WRITE,
)
from shared.uvm.structs import (
    Amap,
    AmapArray,
    Anon,
    Aobj,
    AobjSlots,
    Buf,
    Loan,
    LoanArray,
    Page,
    PageArray,
    PageHash,
    PhysBuf,
    Pmap,
    Proc,
    Shm,
    SwapDev,
    SwapPri,
    UvmObject,
    VmMap,
    VmMapEntry,
    VmMapIntrsafe,
    Vmspace,
    Vnode,
    page_active,
    page_free,
    page_inactive_obj,
    page_inactive_swp,
    uvm,
    uvmexp,
)
from shared.uvm.swap import SLOTS_PER_WORD

#: a page table entry, as the mmu has it
FRAME, PROT, WIRED, REF, MOD = range(5)
AMAP_ARRAYS = ("am_slots", "am_bckptr", "am_anon", "am_ppref")
#: of a map entry; one that says it has more is wrong itself
MOST_PAGES = 1 << 16

QUEUES: dict[str, Struct] = {
    "page_free": page_free,
    "page_active": page_active,
    "page_inactive_swp": page_inactive_swp,
    "page_inactive_obj": page_inactive_obj,
}

S = TypeVar("S", bound=Struct)
#: what is wrong, and the struct (or other thing) it is about
Violation = tuple[str, object]
Check = Callable[["Snapshot"], Iterator[Violation]]


class Translation(NamedTuple):
    """A PTE and what it should be of: the page behind `va` according to the map.

    Attributes:
        va: bytes.
        entry: the map entry that contains `va`, or None.
        anon: in that entry's amap slot, or None.
        page: the anon's page, or the object's if there is no anon; None if neither is resident.
    """

    map: VmMap
    va: int
    pte: list[int]
    entry: VmMapEntry | None
    anon: Anon | None
    page: Page | None


class Swapped(NamedTuple):
    """A page that has a swap slot, whether it is in RAM as well or not.

    Attributes:
        owner: the anon, or the object of an aobj.
        pageidx: number of the page in the object; 0 for an anon.
        page: in RAM, or None.
    """

    owner: Struct
    pageidx: int
    slot: int
    page: Page | None


class Walk(NamedTuple):
    """A list as far as it can be followed, and what is wrong with its links."""

    items: list[Any]
    faults: list[Violation]


class Snapshot:
    """The whole machine at rest, and views of it that several invariants need.

    Args:
        heap: struct id -> [generation, private owner, field 0, ...].
        pmaps: pmap -> {virtual page number: [frame, prot, wired, R, M]}.
        attrs: frame -> a PTE whose R and M are those of mappings since removed.
        slots: swap slot -> contents.
        frames: contents by frame number.
        tlbs: CPU -> (pmap, {virtual page number: [frame, writable, modified]}).
        locks: as `LockTable.state()["locks"]`.
        page_size: bytes.
        bad_slots: swap slots of requests that the device has failed for good.
        tables: [pmap, number of the table, translations that it has room for, frame, translations in it] of each page
            table that is in memory.
        pm_objs: pmap -> the object of its page-table pages.
        blocks: contents of the disk, by block.
    """

    def __init__(
        self,
        heap: dict[int, list[Any]],
        pmaps: dict[int, dict[int, list[int]]],
        attrs: dict[int, list[int]],
        slots: dict[int, tuple[int, ...]],
        frames: list[tuple[int, ...]],
        tlbs: dict[str, tuple[int, dict[int, list[int]]]],
        locks: list[Any],
        page_size: int,
        bad_slots: Iterable[int] = (),
        tables: Iterable[list[int]] = (),
        pm_objs: dict[int, Any] | None = None,
        blocks: Sequence[Sequence[int]] = (),
    ):
        self.heap, self.pmaps, self.attrs = heap, pmaps, attrs
        self.slots, self.frames, self.tlbs = slots, frames, tlbs
        self.locks, self.page_size = locks, page_size
        self.bad_slots = frozenset(bad_slots)
        self.tables, self.pm_objs = sorted(tables), pm_objs or {}
        self.blocks = blocks

    # -- raw reads -------------------------------------------------------------

    def get(self, obj: Struct, field: str) -> Any:
        """A field as it is, whatever the handle's generation."""
        return self.heap[obj.id][type(obj).fields[field].slot]

    def num(self, obj: Struct, field: str) -> int:
        """A number; a field that was never written is 0."""
        value = self.get(obj, field)
        return value if isinstance(value, int) else 0

    def array(self, obj: Array) -> list[Any]:
        """The elements of an array."""
        element = type(obj).element
        assert element is not None
        return self.heap[obj.id][element.slot :]

    def live(self, value: object, kind: type[S]) -> TypeGuard[S]:
        """Is it a handle of a struct of this kind, and that struct still the same?"""
        if not isinstance(value, kind):
            return False
        rec = self.heap.get(value.id)
        return rec is not None and value.gen in (rec[0], ANY_GEN)

    def follow(self, obj: Struct, field: str, kind: type[S]) -> S | None:
        """The struct that a pointer names; None if it names none, or none that lives."""
        value = self.get(obj, field)
        return value if self.live(value, kind) else None

    def all(self, kind: type[S]) -> list[S]:
        """Every live struct of a kind, by number."""
        return self._kinds.get(kind.kind, [])

    # -- views -----------------------------------------------------------------

    @cached_property
    def _kinds(self) -> dict[int, list[Any]]:
        kinds: dict[int, list[Any]] = {number: [] for number in KINDS}
        for key in sorted(self.heap):
            number = key >> KIND_SHIFT
            if number in kinds:  # others are not the kernel's
                kinds[number].append(KINDS[number](key, self.heap[key][0]))
        return kinds

    def walk(self, head: Struct, first: str, kind: type[Struct], next: str, prev: str = "", last: str = "") -> Walk:
        """Follow a list from `head`, whose field `first` begins it; `prev` and `last` are checked if given."""
        items: list[Any] = []
        faults: list[Violation] = []
        seen: set[int] = set()
        before, elm = None, self.get(head, first)
        while elm is not None:
            where = f"after {before}" if before else "at its head"
            if not self.live(elm, kind):
                faults.append((f"{where} it has {elm!r}, which is no {kind.kind_name} of now", before or head))
                break
            if elm.id in seen:
                faults.append((f"{where} it comes back to {elm}", elm))
                break
            if prev and self.get(elm, prev) != before:
                faults.append((f"{elm} comes {where}, but its {prev} is {self.get(elm, prev)}", elm))
            seen.add(elm.id)
            items.append(elm)
            before, elm = elm, self.get(elm, next)
        if last and not faults and self.get(head, last) != before:
            faults.append((f"it ends with {before}, but {last} is {self.get(head, last)}", head))
        return Walk(items, faults)

    @cached_property
    def queues(self) -> dict[str, Walk]:
        """The page queues by name."""
        links = ("pageq_next", "pageq_prev", "tqh_last")
        return {name: self.walk(head, "tqh_first", Page, *links) for name, head in QUEUES.items()}

    @cached_property
    def queues_of(self) -> dict[int, list[str]]:
        """Page id -> names of the queues it is on."""
        on: dict[int, list[str]] = {}
        for name, queue in self.queues.items():
            for page in queue.items:
                on.setdefault(page.id, []).append(name)
        return on

    @cached_property
    def pages(self) -> list[Page]:
        """Pages that are not free."""
        return [page for page in self.all(Page) if not self.num(page, "pqflags") & PQ_FREE]

    @cached_property
    def ptps(self) -> list[Page]:
        """Page-table pages."""
        return [page for page in self.pages if isinstance(self.get(page, "uobject"), Pmap)]

    @cached_property
    def free_pages(self) -> list[Page]:
        return [page for page in self.all(Page) if self.num(page, "pqflags") & PQ_FREE]

    @cached_property
    def afree(self) -> Walk:
        """The free list of anons."""
        return self.walk(uvm, "afree", Anon, "an_nxt")

    @cached_property
    def aio_done(self) -> Walk:
        """Pageouts that are done and not yet reaped."""
        return self.walk(uvm, "aio_done_first", Buf, "next")

    @cached_property
    def free_anons(self) -> set[int]:
        """Ids of the anons on the free list."""
        return {anon.id for anon in self.afree.items}

    @cached_property
    def anons(self) -> list[Anon]:
        """Anons that are not on the free list."""
        return [anon for anon in self.all(Anon) if anon.id not in self.free_anons]

    def amap_array(self, amap: Amap, name: str) -> list[Any]:
        """The elements of one of an amap's three arrays; [] if it has none."""
        array = self.follow(amap, name, AmapArray)
        return [] if array is None else self.array(array)

    @cached_property
    def amap_anons(self) -> dict[int, list[Any]]:
        """Amap id -> the elements of am_anon."""
        return {amap.id: self.amap_array(amap, "am_anon") for amap in self.all(Amap)}

    @cached_property
    def anon_slots(self) -> Counter[int]:
        """Anon id -> number of amap slots that name it."""
        return Counter(anon.id for anons in self.amap_anons.values() for anon in anons if self.live(anon, Anon))

    @cached_property
    def amap_entries(self) -> Counter[int]:
        """Amap id -> number of map entries that refer to it."""
        refs = (self.follow(entry, "aref_amap", Amap) for entry in self.all(VmMapEntry))
        return Counter(amap.id for amap in refs if amap is not None)

    @cached_property
    def lent(self) -> list[tuple[Loan, Any]]:
        """What is on loan to the kernel, page by page or anon by anon, and to whom."""
        found = []
        for loan in self.all(Loan):
            array: Array | None = self.follow(loan, "l_result", LoanArray)
            found += [(loan, one) for one in ([] if array is None else self.array(array))]
        return found

    @cached_property
    def loans(self) -> Counter[int]:
        """Page or anon id -> number of loans to the kernel."""
        return Counter(one.id for _, one in self.lent if self.live(one, Page) or self.live(one, Anon))

    @cached_property
    def entries(self) -> dict[VmMap, Walk]:
        """Map -> its entries; the header, at which the ring closes, is not among them."""
        return {map: self._ring(map) for map in (*self.all(VmMap), *self.all(VmMapIntrsafe))}

    @cached_property
    def submaps(self) -> dict[VmMap, VmMapEntry]:
        """Submap -> the entry of kernel_map that it has taken over."""
        found: dict[VmMap, VmMapEntry] = {}
        for entry in self.all(VmMapEntry):
            submap = self.follow(entry, "sub_map", VmMap) if self.num(entry, "etype") & UVM_ET_SUBMAP else None
            if submap is not None:
                found[submap] = entry
        return found

    @cached_property
    def kentries(self) -> Walk:
        """Map entries for interrupt-safe maps that are free."""
        if uvm.id not in self.heap:
            return Walk([], [])
        return self.walk(uvm, "kentry_free", VmMapEntry, "free_next")

    @cached_property
    def kernel_pages(self) -> dict[int, Page]:
        """Frame -> page of a kernel object."""
        owned = ((page, self.get(page, "uobject")) for page in self.pages)
        return {
            page.frame: page
            for page, uobj in owned
            if self.live(uobj, UvmObject) and self.num(uobj, "uo_refs") in (UVM_OBJ_KERN, UVM_OBJ_INTRSAFE_KERN)
        }

    def _ring(self, map: VmMap) -> Walk:
        items: list[Any] = []
        faults: list[Violation] = []
        header = self.follow(map, "header", VmMapEntry)
        if header is None:
            return Walk(items, [(f"its header is {self.get(map, 'header')!r}, which is no entry of now", map)])
        seen: set[int] = set()
        before: VmMapEntry = header
        while True:
            entry = self.get(before, "next")
            if not self.live(entry, VmMapEntry):
                faults.append((f"the next of {before} is {entry!r}, which is no entry of now", before))
                break
            if self.get(entry, "prev") != before:
                faults.append((f"{entry} comes after {before}, but its prev is {self.get(entry, 'prev')}", entry))
            if entry == header:
                break
            if entry.id in seen:
                faults.append((f"after {before} it comes back to {entry}", entry))
                break
            seen.add(entry.id)
            items.append(entry)
            before = entry
        return Walk(items, faults)

    @cached_property
    def object_pages(self) -> dict[tuple[int, int], Page]:
        """(object id, offset in bytes) -> page."""
        owned = ((page, self.get(page, "uobject")) for page in self.pages)
        return {(uobj.id, self.num(page, "offset")): page for page, uobj in owned if isinstance(uobj, Struct)}

    def behind(self, entry: VmMapEntry, va: int) -> tuple[Anon | None, Page | None]:
        """The anon and the page behind an address of a map entry, as the fault routine would find them."""
        skip = va - self.num(entry, "start")
        amap = self.follow(entry, "aref_amap", Amap)
        if amap is not None:
            anons, slot = self.amap_anons[amap.id], self.num(entry, "aref_pageoff") + skip // self.page_size
            anon = anons[slot] if 0 <= slot < len(anons) else None
            if self.live(anon, Anon):
                return anon, self.follow(anon, "an_page", Page)
        uobj = self.get(entry, "object")
        if not isinstance(uobj, Struct):
            return None, None
        return None, self.object_pages.get((uobj.id, self.num(entry, "offset") + skip))

    def addresses(self, entry: VmMapEntry) -> range:
        """The page addresses of a map entry, within reason."""
        return range(self.num(entry, "start"), self.num(entry, "end"), self.page_size)[:MOST_PAGES]

    @cached_property
    def translations(self) -> list[Translation]:
        """Every PTE of every map."""
        found = []
        for map, ring in self.entries.items():
            if map in self.submaps:
                continue  # it has the pmap of kernel_map, and is looked at with it
            below = [self.entries[sub] for sub, entry in self.submaps.items() if entry in ring.items]
            items = [*ring.items, *(entry for each in below for entry in each.items)]
            items = [entry for entry in items if not self.num(entry, "etype") & UVM_ET_SUBMAP]
            spans = [(self.num(entry, "start"), self.num(entry, "end"), entry) for entry in items]
            for vpn, pte in sorted(self.pmaps.get(self.num(map, "pmap"), {}).items()):
                va = vpn * self.page_size
                inside = next((entry for start, end, entry in spans if start <= va < end), None)
                anon, page = (None, None) if inside is None else self.behind(inside, va)
                found.append(Translation(map, va, pte, inside, anon, page))
        return found

    @cached_property
    def sound_translations(self) -> list[Translation]:
        """Those that name the page they should."""
        return [one for one in self.translations if one.page is not None and one.page.frame == one.pte[FRAME]]

    @cached_property
    def modified(self) -> set[int]:
        """Frames with M set in some mapping, present or removed."""
        ptes = [pte for table in self.pmaps.values() for pte in table.values() if pte[MOD]]
        return {pte[FRAME] for pte in ptes} | {frame for frame, attr in self.attrs.items() if attr[MOD]}

    @cached_property
    def slots_in_use(self) -> dict[SwapDev, set[int]]:
        """Swap device -> its slots that the extent map has in use."""
        used = {}
        for dev in self.all(SwapDev):
            array: Array | None = self.follow(dev, "swd_slots", Array)
            words = [] if array is None else [word if isinstance(word, int) else 0 for word in self.array(array)]
            bits = min(self.num(dev, "swd_npages"), len(words) * SLOTS_PER_WORD)
            first = self.num(dev, "swd_drumoffset")
            used[dev] = {first + at for at in range(bits) if words[at // SLOTS_PER_WORD] >> at % SLOTS_PER_WORD & 1}
        return used

    @cached_property
    def objects(self) -> list[UvmObject]:
        """Those of files and of shared memory."""
        pagers = (UVM_PGOPS_VNODE, UVM_PGOPS_AOBJ)
        return [uobj for uobj in self.all(UvmObject) if self.num(uobj, "pgops") in pagers]

    @cached_property
    def memqs(self) -> dict[UvmObject, Walk]:
        """Object -> the list of its pages."""
        links = ("memq_first", Page, "listq_next", "listq_prev", "memq_last")
        return {uobj: self.walk(uobj, *links) for uobj in self.objects}

    @cached_property
    def object_refs(self) -> Counter[int]:
        """Object id -> number of map entries and shared memory segments that refer to it."""
        refs = [self.follow(entry, "object", UvmObject) for entry in self.all(VmMapEntry)]
        refs += [self.follow(seg, "shm_object", UvmObject) for seg in self.all(Shm)]
        return Counter(uobj.id for uobj in refs if uobj is not None)

    @cached_property
    def swapped(self) -> list[Swapped]:
        """What anons and aobjs have in swap."""
        found = [
            Swapped(anon, 0, self.num(anon, "an_swslot"), self.follow(anon, "an_page", Page)) for anon in self.anons
        ]
        for aobj in self.all(Aobj):
            uobj = self.follow(aobj, "u_obj", UvmObject)
            array: Array | None = self.follow(aobj, "u_swslots", AobjSlots)
            if uobj is None or array is None:
                continue  # LEAK-1
            for pageidx, slot in enumerate(self.array(array)):
                page = self.object_pages.get((uobj.id, pageidx * self.page_size))
                found.append(Swapped(uobj, pageidx, slot if isinstance(slot, int) else 0, page))
        return [one for one in found if one.slot != SWSLOT_NONE]

    @cached_property
    def slot_users(self) -> dict[int, list[Struct]]:
        """Swap slot -> the anons and the aobjs' objects that have it."""
        users: dict[int, list[Struct]] = {}
        for one in self.swapped:
            if one.slot > SWSLOT_NONE:
                users.setdefault(one.slot, []).append(one.owner)
        return users

    @cached_property
    def slot_of(self) -> dict[tuple[int, int], int]:
        """(owner id, number of the page in it) -> swap slot."""
        return {(one.owner.id, one.pageidx): one.slot for one in self.swapped}


# -- the register ----------------------------------------------------------------


class Invariant(NamedTuple):
    """One invariant.

    Attributes:
        source: where UVM says it or relies on it.
    """

    id: str
    sentence: str
    source: str
    violations: Check


#: every invariant by its id, in the order in which they are checked
INVARIANTS: dict[str, Invariant] = {}
#: those that a node checks on its way, since no final state would show them: id -> module
NODE_INVARIANTS = {"TLB-2": "nodes/mmu.py"}


def invariant(id: str, sentence: str, *, source: str) -> Callable[[Check], Check]:
    """Register a function as an invariant."""

    def register(violations: Check) -> Check:
        assert id not in INVARIANTS, f"two invariants {id}"
        INVARIANTS[id] = Invariant(id, sentence, source, violations)
        return violations

    return register


def check(snapshot: Snapshot) -> list[Finding]:
    """Check every invariant.

    Returns: one finding per invariant that does not hold, about its first violation; the others are its story.
    """
    found = []
    for one in INVARIANTS.values():
        wrong = list(one.violations(snapshot))
        if wrong:
            text, subject = wrong[0]
            story = [more for more, _ in wrong[1:]]
            text = f"{one.id}: {one.sentence}: {text}"
            found.append(Finding("invariant", text, subject=str(subject), detector="invariant", story=story))
    return found


def _names(flags: int, names: dict[int, str]) -> str:
    return "|".join(name for flag, name in names.items() if flags & flag) or "none"


# -- amaps ---------------------------------------------------------------------------


def _used(s: Snapshot, amap: Amap) -> list[int]:
    return [slot for slot, anon in enumerate(s.amap_anons[amap.id]) if anon is not None]


@invariant("AMAP-1", "am_slots[am_bckptr[i]] == i for every used slot i, and am_slots is packed", source="uvm_amap.h")
def _(s: Snapshot) -> Iterator[Violation]:
    for amap in s.all(Amap):
        slots, bckptr = s.amap_array(amap, "am_slots"), s.amap_array(amap, "am_bckptr")
        used = _used(s, amap)
        for i in used:
            at = bckptr[i] if i < len(bckptr) else None
            if not isinstance(at, int) or not 0 <= at < min(len(used), len(slots)):
                yield f"{amap} has slot {i} in use, its place in am_slots is {at} of {len(used)}", amap
            elif slots[at] != i:
                yield f"{amap} has slot {i} in use, but am_slots[{at}], its place, names slot {slots[at]}", amap


@invariant("AMAP-2", "am_nused counts the used slots", source="uvm_amap.h")
def _(s: Snapshot) -> Iterator[Violation]:
    for amap in s.all(Amap):
        used, nused = len(_used(s, amap)), s.num(amap, "am_nused")
        if used != nused:
            yield f"{amap} has {used} slots in use and am_nused {nused}", amap


@invariant("AMAP-3", "slots in use are below am_nslot <= am_maxslot, the size of its own arrays", source="uvm_amap.h")
def _(s: Snapshot) -> Iterator[Violation]:
    for amap in s.all(Amap):
        nslot, maxslot = s.num(amap, "am_nslot"), s.num(amap, "am_maxslot")
        if nslot > maxslot:
            yield f"{amap} has am_nslot {nslot}, am_maxslot {maxslot}", amap
        for name in AMAP_ARRAYS:
            array = s.follow(amap, name, AmapArray)
            if name == "am_ppref" and s.get(amap, name) is None:
                continue
            if array is None:
                yield f"{amap} has {s.get(amap, name)!r} for {name}, which is no array of now", amap
            elif s.get(array, "amap") != amap:
                yield f"{amap} has for {name} an array of {s.get(array, 'amap')}", amap
            elif len(s.array(array)) != maxslot:
                yield f"{amap} has am_maxslot {maxslot}, its {name} has {len(s.array(array))} slots", amap
        beyond = [slot for slot in _used(s, amap) if slot >= nslot]
        if beyond:
            yield f"{amap} has slot {beyond[0]} in use and am_nslot {nslot}", amap


@invariant("AMAP-4", "am_ref counts the map entries that refer to an amap", source="uvm_amap.h")
def _(s: Snapshot) -> Iterator[Violation]:
    for amap in s.all(Amap):
        entries, ref = s.amap_entries[amap.id], s.num(amap, "am_ref")
        if entries and entries != ref:  # none at all: LEAK-1
            yield f"{amap} is referred to by {entries} map entries and has am_ref {ref}", amap


@invariant("AMAP-5", "an amap slot names an anon that is alive", source="uvm_amap.h")
def _(s: Snapshot) -> Iterator[Violation]:
    for amap in s.all(Amap):
        for slot, anon in enumerate(s.amap_anons[amap.id]):
            if anon is not None and not s.live(anon, Anon):
                yield f"slot {slot} of {amap} has {anon!r}, which has been freed since", amap


def _covered(s: Snapshot) -> Iterator[tuple[Amap, list[int]]]:
    """Amaps that have entries (LEAK-1), all of them within (MAP-5), with the number of entries that cover each slot."""
    cover: dict[int, list[int] | None] = {amap.id: [0] * len(s.amap_anons[amap.id]) for amap in s.all(Amap)}
    for entry in s.all(VmMapEntry):
        amap = s.follow(entry, "aref_amap", Amap)
        counts = None if amap is None else cover[amap.id]
        if amap is None or counts is None:
            continue
        first = s.num(entry, "aref_pageoff")
        last = first + len(s.addresses(entry))
        if not 0 <= first <= last <= len(counts):
            cover[amap.id] = None
            continue
        for slot in range(first, last):
            counts[slot] += 1
    for amap in s.all(Amap):
        counts = cover[amap.id]
        if counts is not None and s.amap_entries[amap.id]:
            yield amap, counts


def _ppref(s: Snapshot, amap: Amap) -> list[int | None]:
    """am_ppref slot by slot, as far as it makes sense."""
    runs, counts = s.amap_array(amap, "am_ppref"), list[int | None]()
    while len(counts) < len(runs):
        first, *rest = runs[len(counts) :]
        length = 1 if isinstance(first, int) and first > 0 else rest[0] if rest else 0
        if not isinstance(first, int) or first == 0 or not isinstance(length, int):
            break
        if not 0 < length <= len(runs) - len(counts):
            break
        counts += [abs(first) - 1] * length
    return counts + [None] * (len(runs) - len(counts))


@invariant(
    "AMAP-6", "am_ppref counts the map entries that have a slot; without it, all have every slot", source="uvm_amap.c"
)
def _(s: Snapshot) -> Iterator[Violation]:
    for amap, entries in _covered(s):
        if s.get(amap, "am_ppref") is None:
            partly = [slot for slot, count in enumerate(entries) if count != max(entries)]
            if partly:
                yield f"{amap} has no ppref, and slot {partly[0]} is not that of all its map entries", amap
            continue
        for slot, (count, stored) in enumerate(zip(entries, _ppref(s, amap))):
            if count != stored:
                yield f"slot {slot} of {amap} is that of {count} map entries, its ppref says {stored}", amap


@invariant("AMAP-7", "no anon is in a slot that no map entry has", source="uvm_amap.c, amap_wiperange")
def _(s: Snapshot) -> Iterator[Violation]:
    for amap, entries in _covered(s):
        if s.get(amap, "am_ppref") is None:
            continue  # AMAP-6
        for slot, anon in enumerate(s.amap_anons[amap.id]):
            if anon is not None and not entries[slot]:
                yield f"slot {slot} of {amap} has {anon}, and no map entry has that slot", amap


# -- anons ---------------------------------------------------------------------------


@invariant("ANON-1", "an_ref counts the amap slots and loans that hold an anon", source="uvm_anon.h")
def _(s: Snapshot) -> Iterator[Violation]:
    for anon in s.anons:
        slots, loans, ref = s.anon_slots[anon.id], s.loans[anon.id], s.num(anon, "an_ref")
        if slots + loans not in (0, ref):  # none at all: ANON-3
            lent = f" and {loans} loans" if loans else ""
            yield f"{anon} is in {slots} amap slots{lent} and has an_ref {ref}", anon


@invariant("ANON-2", "an anon is on the free list once, unreferenced and without a swap slot", source="uvm_anon.c")
def _(s: Snapshot) -> Iterator[Violation]:
    yield from (("the free list is broken: " + text, subject) for text, subject in s.afree.faults)
    for anon in s.afree.items:
        ref, slot = s.num(anon, "an_ref"), s.num(anon, "an_swslot")
        if ref or slot:
            yield f"{anon} is on the free list with an_ref {ref} and an_swslot {slot}", anon


@invariant("ANON-3", "an anon is either on the free list or in an amap, or on loan", source="uvm_anon.c")
def _(s: Snapshot) -> Iterator[Violation]:
    if s.afree.faults:
        return
    for anon in s.all(Anon):
        free, slots, loans = anon.id in s.free_anons, s.anon_slots[anon.id], s.loans[anon.id]
        if free and slots:
            yield f"{anon} is on the free list and in {slots} amap slots", anon
        elif not free and not slots and not loans:
            yield f"{anon} is leaked: it is not free, and no amap has it (an_ref {s.num(anon, 'an_ref')})", anon


@invariant("ANON-4", "a free anon is unlocked", source="uvm_anon.c, uvm_analloc: the anon is returned unlocked")
def _(s: Snapshot) -> Iterator[Violation]:
    for key, holders, _ in s.locks:
        if holders and key >> LOCK_SHIFT in s.free_anons:
            anon, (ctx, _, since) = Anon(key >> LOCK_SHIFT), holders[0]
            yield f"{anon} is on the free list with its lock held by {ctx} since {since}", anon


# -- pages ---------------------------------------------------------------------------


@invariant("PAGE-1", "the links of every page queue agree in both directions", source="sys/queue.h, TAILQ")
def _(s: Snapshot) -> Iterator[Violation]:
    for name, queue in s.queues.items():
        yield from ((f"{name}: {text}", subject) for text, subject in queue.faults)


@invariant("PAGE-2", "a page is on exactly the queue that its state calls for", source="uvm_page.h, uvm_page.c")
def _(s: Snapshot) -> Iterator[Violation]:
    for page in s.all(Page):
        pqflags, wired = s.num(page, "pqflags"), s.num(page, "wire_count")
        on = s.queues_of.get(page.id, [])
        what = f"pqflags {_names(pqflags, PQ_NAMES)}"
        if pqflags & PQ_FREE:
            right = pqflags == PQ_FREE and on == ["page_free"]
        elif page.frame in s.kernel_pages:
            right, what = not on and not pqflags and not wired, f"a kernel object's, wire_count {wired}, {what}"
        elif wired:
            right, what = not on and not pqflags & (PQ_ACTIVE | PQ_INACTIVE), f"wire_count {wired}, {what}"
        elif pqflags & PQ_ACTIVE:
            right = not pqflags & PQ_INACTIVE and on == ["page_active"]
        elif pqflags & PQ_INACTIVE:
            right = on == ["page_inactive_swp" if pqflags & PQ_SWAPBACKED else "page_inactive_obj"]
        else:
            right = False
        if not right:
            yield f"{page} ({what}) is on {' and '.join(on) or 'no queue'}", page


@invariant("PAGE-3", "no page is BUSY, WANTED, RELEASED or FAKE at rest", source="uvm_page.h")
def _(s: Snapshot) -> Iterator[Violation]:
    for page in s.pages:
        left = s.num(page, "flags") & (PG_BUSY | PG_WANTED | PG_RELEASED | PG_FAKE)
        if left:
            tag = s.get(page, "owner_tag")
            yield f"{page} is still {_names(left, PG_NAMES)}" + (f" ({tag})" if tag and left & PG_BUSY else ""), page


@invariant("PAGE-4", "an anon and its page name each other", source="uvm_page.h, uvm_anon.h")
def _(s: Snapshot) -> Iterator[Violation]:
    for anon in s.anons:
        page = s.get(anon, "an_page")
        if page is None:
            continue
        if not s.live(page, Page):
            yield f"{anon} has {page!r}, which has been freed since", anon
        elif s.num(page, "pqflags") & PQ_FREE:
            yield f"{anon} has {page}, which is free", anon
        elif s.get(page, "uanon") != anon:
            yield f"{anon} has {page}, whose uanon is {s.get(page, 'uanon')}", anon
    for page in s.pages:
        anon, uobj, pqflags = s.get(page, "uanon"), s.get(page, "uobject"), s.num(page, "pqflags")
        borrowed = anon is not None and not pqflags & PQ_ANON and s.num(page, "loan_count") > 0
        if not borrowed and bool(pqflags & PQ_ANON) != (anon is not None and uobj is None):
            yield f"{page} has pqflags {_names(pqflags, PQ_NAMES)}, uanon {anon} and uobject {uobj}", page
        elif anon is not None:
            if not s.live(anon, Anon) or anon.id in s.free_anons:
                yield f"{page} has uanon {anon!r}, which has been freed", page
            elif s.get(anon, "an_page") != page:
                yield f"{page} has uanon {anon}, whose page is {s.get(anon, 'an_page')}", page


@invariant("PAGE-5", "a page that is not free has an owner, or is on loan", source="uvm_page.h")
def _(s: Snapshot) -> Iterator[Violation]:
    for page in s.pages:
        pqflags = s.num(page, "pqflags")
        orphan = s.get(page, "uanon") is None and s.get(page, "uobject") is None
        if orphan and not pqflags & PQ_ANON and not s.num(page, "loan_count"):
            yield f"{page} is leaked: it is not free, and belongs to no anon and no object", page


@invariant("PAGE-6", "a free page is neither wired nor on loan", source="uvm_page.c, uvm_pagefree")
def _(s: Snapshot) -> Iterator[Violation]:
    for page in s.free_pages:
        wired, loans = s.num(page, "wire_count"), s.num(page, "loan_count")
        if wired or loans:
            yield f"{page} is free with wire_count {wired} and loan_count {loans}", page


# -- loans ---------------------------------------------------------------------------


@invariant("LOAN-1", "loan_count counts the loans of a page: to the kernel, and to an anon", source="uvm_loan.c")
def _(s: Snapshot) -> Iterator[Violation]:
    for page in s.pages:
        loans, count = s.loans[page.id], s.num(page, "loan_count")
        anon = s.get(page, "uanon") if not s.num(page, "pqflags") & PQ_ANON else None
        if count == 0 and s.get(page, "uobject") is None:
            anon = None  # PAGE-4
        if count != loans + (anon is not None):
            to = f", and to {anon}" if anon is not None else ""
            yield f"{page} is on loan to the kernel {loans} times{to}; it has loan_count {count}", page


@invariant("LOAN-2", "what is on loan to the kernel is not freed meanwhile", source="uvm_loan.c")
def _(s: Snapshot) -> Iterator[Violation]:
    for loan, one in s.lent:
        free = (s.live(one, Page) and s.num(one, "pqflags") & PQ_FREE) or (s.live(one, Anon) and one.id in s.free_anons)
        if free or not (s.live(one, Page) or s.live(one, Anon)):
            yield f"{loan} has borrowed {one!r}, which has been freed", one


# -- objects -------------------------------------------------------------------------


@invariant("OBJ-1", "an object's list has its pages, and uo_npages counts them", source="uvm_object.h, uvm_page.c")
def _(s: Snapshot) -> Iterator[Violation]:
    listed: dict[int, UvmObject] = {}
    for uobj, memq in s.memqs.items():
        yield from ((f"{uobj}: {text}", subject) for text, subject in memq.faults)
        if memq.faults:
            return
        for page in memq.items:
            listed[page.id] = uobj
            if s.get(page, "uobject") != uobj:
                yield f"{page} is in the list of {uobj}, its uobject is {s.get(page, 'uobject')}", page
        if len(memq.items) != s.num(uobj, "uo_npages"):
            yield f"{uobj} has {len(memq.items)} pages and uo_npages {s.num(uobj, 'uo_npages')}", uobj
    for page in s.pages:
        uobj_of = s.get(page, "uobject")
        if uobj_of in s.memqs and uobj_of != listed.get(page.id):
            yield f"{page} has uobject {uobj_of}, and is not in its list", page


@invariant("OBJ-2", "an object's page is found in the hash, alone at its offset", source="uvm_page.c, uvm_pagelookup")
def _(s: Snapshot) -> Iterator[Violation]:
    table: Array | None = s.follow(uvm, "page_hash", PageHash)
    buckets = [] if table is None else s.array(table)
    found: dict[int, int] = {}
    for number, first in enumerate(buckets):
        page, seen = first, 0
        while s.live(page, Page) and page.id not in found and seen <= len(s.all(Page)):
            found[page.id] = number
            page, seen = s.get(page, "hashq_next"), seen + 1
        if page is not None:
            yield f"bucket {number} of the hash comes to {page!r}, which is no page that belongs there", table
            return
    places: dict[tuple[int, int], Page] = {}
    for memq in s.memqs.values():
        for page in memq.items:
            uobj, offset = s.get(page, "uobject"), s.num(page, "offset")
            if uobj not in s.memqs:
                continue  # OBJ-1
            if found.pop(page.id, None) != (uobj.index * 31 + offset // s.page_size) & (len(buckets) - 1):
                yield f"{page} of {uobj} at {offset:#x} is not in its bucket of the hash", page
            other = places.setdefault((uobj.id, offset), page)
            if other != page:
                yield f"{page} and {other} are both at {offset:#x} of {uobj}", page


@invariant("OBJ-3", "uo_refs counts the map entries and segments that refer to an object", source="uvm_object.h")
def _(s: Snapshot) -> Iterator[Violation]:
    for uobj in s.objects:
        refs, count = s.num(uobj, "uo_refs"), s.object_refs[uobj.id]
        aobj = s.num(uobj, "pgops") == UVM_PGOPS_AOBJ
        if refs != count and (count or not aobj):  # an aobj without any: LEAK-1
            yield f"{uobj} is referred to {count} times and has uo_refs {refs}", uobj


@invariant("OBJ-4", "no file's object is dying, and no I/O to a file is in progress, at rest", source="uvm_vnode.c")
def _(s: Snapshot) -> Iterator[Violation]:
    for vp in s.all(Vnode):
        flags, nio = s.num(vp, "u_flags"), s.num(vp, "u_nio")
        left = flags & ~(UVM_VNODE_VALID | UVM_VNODE_CANPERSIST)
        uobj = s.follow(vp, "u_obj", UvmObject)
        if left or nio:
            yield f"{vp} has u_flags {left:#x} and u_nio {nio}", vp
        elif uobj in s.memqs and not flags & UVM_VNODE_VALID and s.memqs[uobj].items:
            yield f"{vp} is not VALID, and its object has {s.memqs[uobj].items[0]}", vp


@invariant("OBJ-5", "every aobj is on uao_list", source="uvm_aobj.c, uao_swap_off")
def _(s: Snapshot) -> Iterator[Violation]:
    walk = s.walk(uvm, "uao_list_first", Aobj, "u_list_next", "u_list_prev", "uao_list_last")
    yield from ((f"uao_list: {text}", subject) for text, subject in walk.faults)
    if walk.faults:
        return
    for aobj in s.all(Aobj):
        if aobj not in walk.items:
            yield f"{aobj} is not on the list", aobj


@invariant("OBJ-6", "a page is PQ_AOBJ if and only if it is an aobj's", source="uvm_page.h")
def _(s: Snapshot) -> Iterator[Violation]:
    for page in s.pages:
        uobj = s.follow(page, "uobject", UvmObject)
        aobj = uobj is not None and s.num(uobj, "pgops") == UVM_PGOPS_AOBJ
        if aobj != bool(s.num(page, "pqflags") & PQ_AOBJ):
            yield f"{page} of {uobj} has pqflags {_names(s.num(page, 'pqflags'), PQ_NAMES)}", page


@invariant("OBJ-7", "a file's CLEAN page, unless modified since, holds what the disk holds", source="uvm_vnode.c")
def _(s: Snapshot) -> Iterator[Violation]:
    for vp in s.all(Vnode):
        uobj = s.follow(vp, "u_obj", UvmObject)
        for page in s.memqs[uobj].items if uobj in s.memqs else ():
            offset = s.num(page, "offset")
            block = s.num(vp, "v_block") + offset // s.page_size
            if s.num(page, "flags") & (PG_CLEAN | PG_BUSY) != PG_CLEAN or page.frame in s.modified:
                continue
            if offset >= s.num(vp, "u_size") or not 0 <= block < len(s.blocks):
                continue
            frame, disk = tuple(s.frames[page.frame]), tuple(s.blocks[block])
            if frame != disk:
                at = next(word for word, (ram, other) in enumerate(zip(frame, disk)) if ram != other)
                yield f"{page} of {uobj} has {frame[at]:#x} at byte {at * 8}, block {block} has {disk[at]:#x}", page


# -- wiring --------------------------------------------------------------------------


@invariant(
    "WIRE-1",
    "wire_count counts a page's wired map entries and its loans to the kernel, and is 1 for a page table",
    source="uvm_page.h, uvm_fault.c; uvm_loan.c; pmap.c",
)
def _(s: Snapshot) -> Iterator[Violation]:
    wirings: Counter[int] = Counter()
    for entry in s.all(VmMapEntry):
        if s.num(entry, "wired_count"):
            behind = (s.behind(entry, va)[1] for va in s.addresses(entry))
            wirings.update(page.id for page in behind if page is not None)
    wirings.update(page.id for page in s.ptps)
    for page in s.pages:
        count, loans = s.num(page, "wire_count"), s.loans[page.id]
        if count != wirings[page.id] + loans:
            lent = f", on loan to the kernel {loans} times," if loans else ""
            yield f"{page} is in {wirings[page.id]} wired map entries{lent} and has wire_count {count}", page


def _replaceable(s: Snapshot, entry: VmMapEntry, va: int) -> bool:
    """Can another process, or another mapping, have given a resident page of this entry for another one?"""
    anon, page = s.behind(entry, va)
    if page is None:
        return False
    amap = s.follow(entry, "aref_amap", Amap)
    return anon is None or (amap is not None and s.num(amap, "am_ref") > 1)


@invariant(
    "WIRE-2",
    "every page of a wired, accessible map entry is mapped wired there; or resident, if another mapping can replace it",
    source="uvm_map.c; fault_wire.py",
)
def _(s: Snapshot) -> Iterator[Violation]:
    for map, ring in s.entries.items():
        table = s.pmaps.get(s.num(map, "pmap"), {})
        for entry in ring.items:
            if not s.num(entry, "wired_count") or s.num(entry, "protection") == VM_PROT_NONE:
                continue
            for va in s.addresses(entry):
                pte = table.get(va // s.page_size)
                if pte is None and _replaceable(s, entry, va):
                    continue
                if pte is None or not pte[WIRED]:
                    what = "not mapped" if pte is None else "mapped unwired"
                    yield f"{entry} of {map} is wired, {va:#x} in it is {what}", entry


@invariant("WIRE-3", "no device is at work on any page", source="(model) physio.py: io_count")
def _(s: Snapshot) -> Iterator[Violation]:
    for page in s.pages:
        count = s.num(page, "io_count")
        if count:
            yield f"{page} has io_count {count}, and all device I/O is over", page


# -- uvmexp --------------------------------------------------------------------------


def _recount(s: Snapshot, name: str, count: int, what: str) -> Iterator[Violation]:
    stored = s.num(uvmexp, name)
    if stored != count:
        yield f"uvmexp.{name} is {stored}, {what} {count}", uvmexp


@invariant("COUNT-1", "uvmexp.free counts the free list", source="uvm_extern.h")
def _(s: Snapshot) -> Iterator[Violation]:
    yield from _recount(s, "free", len(s.queues["page_free"].items), "pages on the free list:")


@invariant("COUNT-2", "uvmexp.active counts the active queue", source="uvm_extern.h")
def _(s: Snapshot) -> Iterator[Violation]:
    yield from _recount(s, "active", len(s.queues["page_active"].items), "pages on the active queue:")


@invariant("COUNT-3", "uvmexp.inactive counts the inactive queues", source="uvm_extern.h")
def _(s: Snapshot) -> Iterator[Violation]:
    inactive = len(s.queues["page_inactive_swp"].items) + len(s.queues["page_inactive_obj"].items)
    yield from _recount(s, "inactive", inactive, "pages on the inactive queues:")


@invariant("COUNT-4", "uvmexp.wired counts the wired pages, page tables excepted", source="uvm_extern.h; pmap.c")
def _(s: Snapshot) -> Iterator[Violation]:
    wired = sum(1 for page in s.pages if s.num(page, "wire_count")) - len(s.ptps)
    yield from _recount(s, "wired", wired, "pages with a wire_count:")


@invariant("COUNT-5", "nothing is in flight to swap or to a file, nothing is to be reaped", source="uvm_pdaemon.c")
def _(s: Snapshot) -> Iterator[Violation]:
    yield from _recount(s, "paging", 0, "pages in flight:")
    for bp in s.aio_done.items:
        yield f"{bp} is still on aio_done", bp


@invariant("COUNT-6", "uvmexp.nfreeanon counts the free anons", source="uvm_extern.h")
def _(s: Snapshot) -> Iterator[Violation]:
    yield from _recount(s, "nfreeanon", len(s.afree.items), "anons on the free list:")


@invariant("COUNT-7", "uvmexp.swpginuse counts the swap slots in use", source="uvm_extern.h")
def _(s: Snapshot) -> Iterator[Violation]:
    yield from _recount(s, "swpginuse", sum(map(len, s.slots_in_use.values())), "slots in use:")


@invariant("COUNT-8", "uvmexp.swpgonly counts the swap slots whose data is nowhere in RAM", source="uvm_extern.h")
def _(s: Snapshot) -> Iterator[Violation]:
    only = sum(
        1 for one in s.swapped if (s.get(one.owner, "an_page") if isinstance(one.owner, Anon) else one.page) is None
    )
    yield from _recount(s, "swpgonly", only, "pages with a slot and not in RAM:")


@invariant("COUNT-9", "0 <= swpgonly <= swpginuse <= swpages", source="uvm_swap.c")
def _(s: Snapshot) -> Iterator[Violation]:
    only, inuse, pages = (s.num(uvmexp, name) for name in ("swpgonly", "swpginuse", "swpages"))
    if not 0 <= only <= inuse <= pages:
        yield f"swpgonly is {only}, swpginuse {inuse}, swpages {pages}", uvmexp


@invariant("COUNT-10", "freemin is above reserve_kernel", source="uvm_pdaemon.c 1.39, uvmpd_tune")
def _(s: Snapshot) -> Iterator[Violation]:
    freemin, reserve = s.num(uvmexp, "freemin"), s.num(uvmexp, "reserve_kernel")
    if freemin <= reserve:
        yield f"freemin is {freemin}, reserve_kernel {reserve}: the pagedaemon may sleep while programs wait", uvmexp


@invariant("COUNT-11", "nobody is counted as a waiter for memory", source="uvm_pdaemon.c, uvm_wait")
def _(s: Snapshot) -> Iterator[Violation]:
    waiters = s.num(uvm, "pagedaemon_waiters")
    if waiters:
        yield f"pagedaemon_waiters is {waiters}", uvm


@invariant("COUNT-12", "swpages counts the slots of devices in use, and bad ones of the others", source="uvm_swap.c")
def _(s: Snapshot) -> Iterator[Violation]:
    pages = 0
    for dev in s.all(SwapDev):
        pages += s.num(dev, "swd_npages" if s.num(dev, "swd_flags") & SWF_INUSE else "swd_npgbad")
    yield from _recount(s, "swpages", pages, "slots to swap to:")


# -- swap ----------------------------------------------------------------------------


@invariant("SWAP-1", "the slots in use are those that anons and aobjs have, and the bad ones", source="uvm_swap.c")
def _(s: Snapshot) -> Iterator[Violation]:
    everything: set[int] = set()
    for dev, used in s.slots_in_use.items():
        everything |= used
        unused, bad = sorted(used - set(s.slot_users)), s.num(dev, "swd_npgbad")
        if len(unused) != bad:
            some = f", among them slot {unused[0]}" if unused else ""
            yield f"{dev} has {len(unused)} slots in use that nobody has{some}, and {bad} bad ones", dev
    for slot, anons in sorted(s.slot_users.items()):
        if slot not in everything:
            yield f"{anons[0]} has slot {slot}, which is not in use", anons[0]


@invariant("SWAP-2", "no two pages have the same swap slot", source="uvm_swap.c")
def _(s: Snapshot) -> Iterator[Violation]:
    for slot, anons in sorted(s.slot_users.items()):
        if len(anons) > 1:
            yield f"slot {slot} is that of {' and '.join(map(str, anons))}", anons[0]


@invariant("SWAP-3", "swd_npginuse counts the slots in use of a device", source="uvm_swap.c")
def _(s: Snapshot) -> Iterator[Violation]:
    for dev, used in s.slots_in_use.items():
        count = s.num(dev, "swd_npginuse")
        if count != len(used):
            yield f"{dev} has {len(used)} slots in use and swd_npginuse {count}", dev


def _clean(s: Snapshot) -> Iterator[tuple[Page, Struct, int]]:
    """Clean swap-backed pages, with their owners and slots. A page in transit is PAGE-3's."""
    for page in s.pages:
        if s.num(page, "flags") & (PG_CLEAN | PG_BUSY) != PG_CLEAN:
            continue
        if s.num(page, "pqflags") & PQ_ANON:
            anon = s.follow(page, "uanon", Anon)
            if anon is not None:
                yield page, anon, s.slot_of.get((anon.id, 0), SWSLOT_NONE)
        elif s.num(page, "pqflags") & PQ_AOBJ:
            uobj = s.follow(page, "uobject", UvmObject)
            if uobj is not None:
                yield page, uobj, s.slot_of.get((uobj.id, s.num(page, "offset") // s.page_size), SWSLOT_NONE)


@invariant("SWAP-4", "a swap-backed page that is CLEAN has a swap slot", source="uvm_pdaemon.c")
def _(s: Snapshot) -> Iterator[Violation]:
    for page, owner, slot in _clean(s):
        if slot <= SWSLOT_NONE:
            yield f"{page} of {owner} is CLEAN, and its slot is {slot}", page


@invariant("SWAP-5", "a CLEAN page, unless modified since, holds what its swap slot holds", source="uvm_page.h")
def _(s: Snapshot) -> Iterator[Violation]:
    for page, owner, slot in _clean(s):
        if slot <= SWSLOT_NONE or page.frame in s.modified:
            continue
        frame = tuple(s.frames[page.frame])
        swap = s.slots.get(slot, (0,) * len(frame))
        at = next((word for word, (ram, disk) in enumerate(zip(frame, swap)) if ram != disk), None)
        if at is not None:
            yield f"{page} of {owner} has {frame[at]:#x} at byte {at * 8}, slot {slot} has {swap[at]:#x}", page


@invariant("SWAP-6", "bad slots are those that the device has failed for good", source="uvm_pager.c, 2001-03-10")
def _(s: Snapshot) -> Iterator[Violation]:
    for dev, used in s.slots_in_use.items():
        first = s.num(dev, "swd_drumoffset")
        unused = used - set(s.slot_users)
        bad = {slot for slot in s.bad_slots if first <= slot < first + s.num(dev, "swd_npages")}
        if len(unused) != s.num(dev, "swd_npgbad"):
            continue  # SWAP-1
        if unused - bad:
            yield f"{dev} has bad slots, among them {min(unused - bad)}, which the device has never failed", dev
        elif bad - unused:
            yield f"the device has failed slot {min(bad - unused)} for good, and it is not one of {dev}'s bad ones", dev


@invariant("SWAP-7", "each device in use is on the list of its priority, lists in order", source="uvm_swap.c")
def _(s: Snapshot) -> Iterator[Violation]:
    lists = s.walk(uvm, "swap_priority", SwapPri, "spi_next")
    yield from lists.faults
    on: set[SwapDev] = set()
    last = -1
    for spp in lists.items:
        priority = s.num(spp, "spi_priority")
        devices = s.walk(spp, "spi_first", SwapDev, "swd_next", "swd_prev", "spi_last")
        yield from devices.faults
        if priority <= last or not devices.items:
            yield f"{spp} has priority {priority} after {last}, and {len(devices.items)} devices", spp
        last = priority
        for dev in devices.items:
            if dev in on or s.num(dev, "swd_priority") != priority:
                yield f"{dev} of priority {s.num(dev, 'swd_priority')} is on the list of {priority}", dev
        on |= set(devices.items)
    for dev in s.all(SwapDev):
        if bool(s.num(dev, "swd_flags") & SWF_INUSE) != (dev in on):
            yield f"{dev} is {'on' if dev in on else 'not on'} a list, its flags are {s.num(dev, 'swd_flags')}", dev
    if s.num(uvm, "nswapdev") != len(on):
        yield f"nswapdev is {s.num(uvm, 'nswapdev')}, devices on lists: {len(on)}", uvm


@invariant("SWAP-8", "a device not in use has nothing on it, and at rest none is being removed", source="uvm_swap.c")
def _(s: Snapshot) -> Iterator[Violation]:
    for dev in s.all(SwapDev):
        flags, first = s.num(dev, "swd_flags"), s.num(dev, "swd_drumoffset")
        if flags == SWF_INUSE:
            yield f"{dev} is in use, and not enabled", dev
        if not flags & SWF_INUSE:
            for slot, users in sorted(s.slot_users.items()):
                if first <= slot < first + s.num(dev, "swd_npages"):
                    yield f"{users[0]} has slot {slot} of {dev}, which is not in use", dev


# -- maps ----------------------------------------------------------------------------


@invariant("MAP-1", "a map's entries form a ring through its header; hint is on it", source="uvm_map.c")
def _(s: Snapshot) -> Iterator[Violation]:
    for map, ring in s.entries.items():
        yield from ((f"{map}: {text}", subject) for text, subject in ring.faults)
        if ring.faults:
            continue
        members = [*ring.items, s.get(map, "header")]
        for entry in ring.items:
            if s.get(entry, "map") != map:
                yield f"{entry} is in the list of {map} and says it is of {s.get(entry, 'map')}", entry
        hint = s.get(map, "hint")
        if hint is not None and not (hint in members and s.live(hint, VmMapEntry)):
            yield f"hint of {map} is {hint!r}, which is not one of its entries", map


@invariant("MAP-2", "entries are whole pages within the map, sorted, and do not overlap", source="uvm_map.c")
def _(s: Snapshot) -> Iterator[Violation]:
    for map, ring in s.entries.items():
        at, last = s.num(map, "min_offset"), s.num(map, "max_offset")
        for entry in ring.items:
            start, end = s.num(entry, "start"), s.num(entry, "end")
            if start % s.page_size or end % s.page_size or not at <= start < end <= last:
                yield f"{entry} of {map} is [{start:#x}, {end:#x}), where [{at:#x}, {last:#x}) was left", entry
            at = max(at, end)


@invariant("MAP-3", "nentries and size are those of a map's entries", source="uvm_map.c")
def _(s: Snapshot) -> Iterator[Violation]:
    for map, ring in s.entries.items():
        if ring.faults:
            continue
        size = sum(s.num(entry, "end") - s.num(entry, "start") for entry in ring.items)
        if (s.num(map, "nentries"), s.num(map, "size")) != (len(ring.items), size):
            stored = f"nentries {s.num(map, 'nentries')}, size {s.num(map, 'size')}"
            yield f"{map} has {stored}, its {len(ring.items)} entries have {size} bytes", map


@invariant("MAP-4", "an entry that needs a copy is copy-on-write", source="uvm_map.h")
def _(s: Snapshot) -> Iterator[Violation]:
    for entry in s.all(VmMapEntry):
        if s.num(entry, "etype") & (UVM_ET_NEEDSCOPY | UVM_ET_COPYONWRITE) == UVM_ET_NEEDSCOPY:
            yield f"{entry} is NEEDSCOPY and not COPYONWRITE", entry


@invariant("MAP-5", "an entry's amap has a slot for each of its pages", source="uvm_amap.c, amap_lookups")
def _(s: Snapshot) -> Iterator[Violation]:
    for entry in s.all(VmMapEntry):
        amap = s.get(entry, "aref_amap")
        if amap is None:
            continue
        if not s.live(amap, Amap):
            yield f"{entry} refers to {amap!r}, which has been freed", entry
            continue
        pages, pageoff, nslot = len(s.addresses(entry)), s.num(entry, "aref_pageoff"), s.num(amap, "am_nslot")
        if pageoff < 0 or pages > nslot - pageoff:
            yield f"{entry} has {pages} pages from slot {pageoff} of {amap} on, which has {nslot}", entry


@invariant("MAP-6", "no map is BUSY or WANTED at rest", source="uvm_map.h, vm_map_busy")
def _(s: Snapshot) -> Iterator[Violation]:
    for map in s.all(VmMap):
        left = s.num(map, "flags") & (VM_MAP_BUSY | VM_MAP_WANTLOCK)
        if left:
            yield f"{map} is still {_names(left, {VM_MAP_BUSY: 'BUSY', VM_MAP_WANTLOCK: 'WANTLOCK'})}", map


@invariant("MAP-7", "an entry's protection is within its max_protection", source="uvm_map.c, uvm_map_protect")
def _(s: Snapshot) -> Iterator[Violation]:
    for map, ring in s.entries.items():
        for entry in ring.items:
            protection, most = s.num(entry, "protection"), s.num(entry, "max_protection")
            if protection & ~most:
                yield f"{entry} of {map} has protection {protection}, max_protection {most}", entry


# -- kernel memory -------------------------------------------------------------------


@invariant(
    "KM-1",
    "a submap has the addresses and the pmap of the part of kernel_map that it takes over",
    source="uvm_km.c",
)
def _(s: Snapshot) -> Iterator[Violation]:
    for submap, entry in s.submaps.items():
        parent = s.follow(entry, "map", VmMap)
        ours = s.num(submap, "min_offset"), s.num(submap, "max_offset"), s.num(submap, "pmap")
        theirs = s.num(entry, "start"), s.num(entry, "end"), -1 if parent is None else s.num(parent, "pmap")
        if ours != theirs:
            yield f"{submap} is [{ours[0]:#x}, {ours[1]:#x}) of pmap {ours[2]}, {entry} of {parent} is not", submap


@invariant(
    "KM-2",
    "memory of a kernel object is resident and mapped wired, and its pages are all mapped",
    source="uvm_km.c",
)
def _(s: Snapshot) -> Iterator[Violation]:
    table, seen = s.pmaps.get(PMAP_KERNEL, {}), set()
    for map, ring in s.entries.items():
        for entry in ring.items:
            uobj = s.follow(entry, "object", UvmObject)
            if uobj is None or s.num(uobj, "uo_refs") not in (UVM_OBJ_KERN, UVM_OBJ_INTRSAFE_KERN):
                continue
            for va in s.addresses(entry):
                _, page = s.behind(entry, va)
                pte = table.get(va // s.page_size)
                if page is None:
                    yield f"{va:#x} of {map} is that of {uobj}, which has no page there", entry
                elif pte is None or pte[FRAME] != page.frame:
                    yield f"{page} of {uobj} belongs at {va:#x} of {map}, and is not mapped there", page
                elif not pte[WIRED]:
                    yield f"{page} of {uobj} is mapped at {va:#x} of {map}, and not wired", page
                if page is not None:
                    seen.add(page.frame)
    for frame, page in s.kernel_pages.items():
        if frame not in seen:
            yield f"{page} is that of {s.get(page, 'uobject')}, and no kernel map has it", page


@invariant(
    "KM-3",
    "every interrupt-safe map is on vmi_list, and its entries are static ones",
    source="uvm_map.h, uvm_map.c",
)
def _(s: Snapshot) -> Iterator[Violation]:
    listed = s.walk(uvm, "vmi_list", VmMapIntrsafe, "vmi_list_next") if uvm.id in s.heap else Walk([], [])
    yield from listed.faults
    for map in s.all(VmMapIntrsafe):
        if map not in listed.items:
            yield f"{map} is not on vmi_list: the fault routine will look it up", map
    yield from s.kentries.faults
    for entry in s.kentries.items:
        if any(entry in ring.items for ring in s.entries.values()):
            yield f"{entry} is on kentry_free, and in a map", entry


# -- translations --------------------------------------------------------------------


@invariant("PTE-1", "a mapping names the page that its map entry has there", source="uvm_fault.c")
def _(s: Snapshot) -> Iterator[Violation]:
    for map, va, pte, entry, anon, page in s.translations:
        there = Page.at(pte[FRAME])
        free = ", which is free" if there.id in s.heap and s.num(there, "pqflags") & PQ_FREE else ""
        if entry is None:
            yield f"{va:#x} of {map} is mapped to {there}{free}, and in no map entry", there
        elif page is None:
            what = f"{anon}, not resident" if anon is not None else "nothing"
            yield f"{va:#x} of {map} is mapped to {there}{free}; {entry} has {what} there", there
        elif page.frame != pte[FRAME]:
            what = f"{page} of {anon}" if anon is not None else str(page)
            yield f"{va:#x} of {map} is mapped to {there}{free}; {entry} has {what} there", there


@invariant("PTE-2", "a mapping allows no more than its map entry", source="uvm_map.c, uvm_map_protect")
def _(s: Snapshot) -> Iterator[Violation]:
    for map, va, pte, entry, _, page in s.sound_translations:
        allowed = VM_PROT_NONE if entry is None else s.num(entry, "protection")
        if pte[PROT] & ~allowed:
            yield f"{va:#x} of {map} is mapped with protection {pte[PROT]}, {entry} has {allowed}", page


@invariant("PTE-3", "a page that others may see is not mapped writable", source="uvm_fault.c")
def _(s: Snapshot) -> Iterator[Violation]:
    for map, va, pte, entry, anon, page in s.sound_translations:
        if entry is None or page is None or not pte[PROT] & VM_PROT_WRITE:
            continue
        etype = s.num(entry, "etype")
        why = ""
        if etype & UVM_ET_NEEDSCOPY:
            why = f"{entry} needs a copy"
        elif anon is None and etype & UVM_ET_COPYONWRITE:
            why = f"{entry} is copy-on-write"
        elif anon is not None and s.num(anon, "an_ref") > 1:
            why = f"{anon} has an_ref {s.num(anon, 'an_ref')}"
        elif s.num(page, "loan_count"):
            why = f"it has loan_count {s.num(page, 'loan_count')}"
        if why:
            yield f"{va:#x} of {map} is mapped writable to {page}, and {why}", page


@invariant("PTE-4", "a page table in memory counts its translations, and has at least one", source="i386 pmap.c")
def _(s: Snapshot) -> Iterator[Violation]:
    for pmap, number, room, frame, count in s.tables:
        live = sum(vpn // room == number for vpn in s.pmaps.get(pmap, ()))
        if count != live or not live:
            where = f"table {number} of pmap {pmap}, page:{frame},"
            yield f"{where} has {live} translations and counts {count}", Page.at(frame)


@invariant("PTE-5", "the pages of a pmap's object are its page tables", source="i386 pmap.c")
def _(s: Snapshot) -> Iterator[Violation]:
    of = {(pmap, frame) for pmap, _, _, frame, _ in s.tables}
    owners = {obj: pmap for pmap, obj in s.pm_objs.items()}
    mine = {(owners.get(s.get(page, "uobject")), page.frame) for page in s.ptps}
    for page in s.ptps:
        if (owners.get(s.get(page, "uobject")), page.frame) not in of:
            yield f"{page} belongs to {s.get(page, 'uobject')}, and is no page table of its pmap", page
    for pmap, frame in sorted(of):
        if (pmap, frame) not in mine:
            there = Page.at(frame)
            free = "free" if s.num(there, "pqflags") & PQ_FREE else f"a page of {s.get(there, 'uobject')}"
            yield f"page:{frame} is a page table of pmap {pmap}, and {free}", there


@invariant("TLB-1", "what a CPU has cached is in the page table, and allows no more than it", source="pmap(9)")
def _(s: Snapshot) -> Iterator[Violation]:
    for cpu, (pmap, cached) in s.tlbs.items():
        table = s.pmaps.get(pmap, {})
        for vpn, (frame, writable, modified) in sorted(cached.items()):
            pte = table.get(vpn)
            what = f"{cpu} has {vpn * s.page_size:#x} of pmap {pmap} cached"
            if pte is None:
                yield f"{what} as page:{frame}; it is not mapped", Page.at(frame)
            elif pte[FRAME] != frame:
                yield f"{what} as page:{frame}; it is mapped to page:{pte[FRAME]}", Page.at(frame)
            elif writable and not pte[PROT] & VM_PROT_WRITE:
                yield f"{what} writable; it is mapped with protection {pte[PROT]}", Page.at(frame)
            elif modified and not pte[MOD]:
                yield f"{what} as modified; the page table says it is not", Page.at(frame)


# -- locks, and what nobody has ------------------------------------------------------


@invariant("LOCK-1", "no lock is held at rest", source="LOCKDEBUG")
def _(s: Snapshot) -> Iterator[Violation]:
    for key, holders, waiters in s.locks:
        if holders and key >> LOCK_SHIFT in s.free_anons:
            continue  # ANON-4
        subject = lock_name(key).split(".", maxsplit=1)[0]
        for ctx, _, since in holders[:1]:
            yield f"{lock_name(key)} is held by {ctx} since {since}", subject
        if waiters and not holders:
            yield f"{lock_name(key)} is free, and {waiters[0][0]} waits for it", subject


@invariant("PROC-1", "a process that runs has an address space, one that has exited has none", source="kern_exit.c")
def _(s: Snapshot) -> Iterator[Violation]:
    for proc in s.all(Proc):
        stat, vmspace = s.num(proc, "p_stat"), s.follow(proc, "p_vmspace", Vmspace)
        if stat == SRUN and (vmspace is None or s.follow(vmspace, "vm_map", VmMap) is None):
            yield f"{proc} runs, its vmspace {s.get(proc, 'p_vmspace')} has been freed", proc
        elif stat == SZOMB and vmspace is not None:
            yield f"{proc} has exited, and {vmspace} is still there", proc


@invariant("LEAK-1", "every struct that is allocated is in use", source="uvm_map.c, uvm_amap.c, uvm_pager.c")
def _(s: Snapshot) -> Iterator[Violation]:
    spaces = {s.get(proc, "p_vmspace") for proc in s.all(Proc)}
    maps = {s.get(vmspace, "vm_map") for vmspace in s.all(Vmspace)}
    entries = {entry for ring in s.entries.values() for entry in ring.items}
    entries |= {s.get(map, "header") for map in s.entries} | set(s.kentries.items)
    maps |= {s.get(uvm, "kernel_map"), *s.submaps} if uvm.id in s.heap else set()
    broken = any(ring.faults for ring in (*s.entries.values(), s.kentries))
    arrays = {s.get(amap, name) for amap in s.all(Amap) for name in AMAP_ARRAYS}
    for vmspace in s.all(Vmspace):
        if vmspace not in spaces:
            yield f"{vmspace} is leaked: no process has it", vmspace
    for map in s.entries:
        if map not in maps:
            yield f"{map} is leaked: no vmspace has it", map
    for entry in s.all(VmMapEntry):
        if entry not in entries and not broken:
            yield f"{entry} is leaked: it is in no map", entry
    for amap in s.all(Amap):
        if not s.amap_entries[amap.id]:
            yield f"{amap} is leaked: no map entry refers to it (am_ref {s.num(amap, 'am_ref')})", amap
    for array in s.all(AmapArray):
        if array not in arrays:
            yield f"{array} is leaked: no amap has it", array
    pagers = {s.get(one, "u_obj") for kind in (Vnode, Aobj) for one in s.all(kind)}
    for uobj in s.objects:
        aobj = s.num(uobj, "pgops") == UVM_PGOPS_AOBJ
        if (aobj and not s.object_refs[uobj.id]) or uobj not in pagers:
            yield f"{uobj} is leaked: nothing refers to it (uo_refs {s.num(uobj, 'uo_refs')})", uobj
    swslots = {s.get(one, "u_swslots") for one in s.all(Aobj)}
    for one in s.all(AobjSlots):
        if one not in swslots:
            yield f"{one} is leaked: no aobj has it", one
    results = {s.get(loan, "l_result") for loan in s.all(Loan)}
    for lent in s.all(LoanArray):
        if lent not in results:
            yield f"{lent} is leaked: no loan has it", lent
    done = {bp.id for bp in s.aio_done.items}
    pending = {s.get(bp, "pages") for bp in s.aio_done.items}
    for bp in s.all(Buf):
        if bp.id not in done:
            yield f"{bp} is leaked: nothing is in flight, and it is not on aio_done", bp
    for phys in s.all(PhysBuf):
        yield f"{phys} is leaked: nothing is in flight", phys
    for pages in s.all(PageArray):
        if pages not in pending:
            yield f"{pages} is leaked: nothing is in flight", pages


@invariant("LEAK-2", "every pmap is that of a map, and every map has one", source="pmap(9)")
def _(s: Snapshot) -> Iterator[Violation]:
    of = {s.num(map, "pmap"): map for map in s.entries}
    for pmap in sorted(s.pmaps):
        if pmap not in of:
            yield f"pmap {pmap} is leaked: no map has it", f"pmap:{pmap}"
    for pmap, map in of.items():
        if pmap not in s.pmaps:
            yield f"{map} has pmap {pmap}, which is gone", map
    objects = set(s.pm_objs.values())
    for obj in s.all(Pmap):
        if obj not in objects:
            yield f"{obj} is leaked: no pmap has it", obj
