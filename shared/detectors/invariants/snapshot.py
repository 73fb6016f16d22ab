"""The whole machine at rest, as invariants see it.

The snapshot must work on a wrong state, so it trusts nothing: it follows pointers only
to live structs of the right kind, and its walks end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeGuard, TypeVar

from shared.locks.table import LockState
from shared.port.heap import HEADER, Heap
from shared.port.port import Value
from shared.port.struct import KIND_SHIFT, KINDS, Array, Struct
from shared.uvm.param import (
    PQ_FREE,
    SWSLOT_NONE,
    UVM_ET_SUBMAP,
    UVM_OBJ_INTRSAFE_KERN,
    UVM_OBJ_KERN,
    UVM_PGOPS_AOBJ,
    UVM_PGOPS_VNODE,
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
    Pmap,
    Shm,
    SwapDev,
    UvmObject,
    VmMap,
    VmMapEntry,
    VmMapIntrsafe,
    page_active,
    page_free,
    page_inactive_obj,
    page_inactive_swp,
    uvm,
)
from shared.uvm.swap import SLOTS_PER_WORD

#: a page table entry, as the mmu has it
FRAME, PROT, WIRED, REF, MOD = range(5)
AMAP_ARRAYS = ("am_slots", "am_bckptr", "am_anon", "am_ppref")
#: of a map entry; a map that says it has more is wrong itself
MOST_PAGES = 1 << 16

QUEUES: dict[str, Struct] = {
    "page_free": page_free,
    "page_active": page_active,
    "page_inactive_swp": page_inactive_swp,
    "page_inactive_obj": page_inactive_obj,
}

S = TypeVar("S", bound=Struct)
T = TypeVar("T")
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

    items: list[Value]
    faults: list[Violation]


class view(Generic[T]):
    """A property that is computed when it is first read.

    functools.cached_property keeps its values in `__dict__`, which an object of a compiled class does not have.
    """

    def __init__(self, compute: Callable[[Any], T]):
        self.compute = compute

    def __get__(self, structs: Structs, kind: object = None) -> T:
        computed: dict[object, T] = structs.computed
        if self not in computed:
            computed[self] = self.compute(structs)
        return computed[self]


@dataclass(eq=False)
class Structs:
    """Reads of a heap, whatever is in it.

    Args:
        heap: every struct's record.

    Attributes:
        computed: values of its views.
    """

    heap: Heap
    computed: dict[object, Any] = field(init=False, default_factory=dict)

    def get(self, obj: Struct, field: str) -> Value:
        """A field as it is, whatever the handle's generation."""
        return self.heap.peek(obj, type(obj).fields[field].slot)

    def num(self, obj: Struct, field: str) -> int:
        """A number; a field that was never written is 0."""
        value = self.get(obj, field)
        return value if isinstance(value, int) else 0

    def array(self, obj: Array) -> list[Value]:
        """The elements of an array."""
        element = type(obj).element
        assert element is not None
        return self.heap[obj.id].fields[element.slot - HEADER :]

    def live(self, value: object, kind: type[S]) -> TypeGuard[S]:
        """Is it a handle of a struct of this kind, and that struct still the same?"""
        if not isinstance(value, kind):
            return False
        rec = self.heap.get(value.id)
        return rec is not None and rec.lives(value)

    def follow(self, obj: Struct, field: str, kind: type[S]) -> S | None:
        """The struct that a pointer names; None if it names none, or none that lives."""
        value = self.get(obj, field)
        return value if self.live(value, kind) else None

    def all(self, kind: type[S]) -> list[S]:
        """Every live struct of a kind, by number."""
        return self._kinds.get(kind.kind, [])

    @view
    def _kinds(self) -> dict[int, list[Value]]:
        kinds: dict[int, list[Value]] = {number: [] for number in KINDS}
        for key in sorted(self.heap):
            number = key >> KIND_SHIFT
            if number in kinds:  # others are not the kernel's
                kinds[number].append(KINDS[number](key, self.heap[key].gen))
        return kinds

    def walk(self, head: Struct, first: str, kind: type[Struct], next: str, prev: str = "", last: str = "") -> Walk:
        """Follow a list from `head`, whose field `first` begins it; `prev` and `last` are checked if given.

        A list whose head is itself of that kind is a ring: it ends at its head, and not with NULL.
        """
        items: list[Value] = []
        faults: list[Violation] = []
        seen: set[int] = set()
        end = head if isinstance(head, kind) else None
        before, elm = end, self.get(head, first)
        while elm != end:
            if not self.live(elm, kind):
                what = f"{_after(before)} it has {elm!r}, which is not a live {kind.kind_name}"
                faults.append((what, before or head))
                break
            if elm.id in seen:
                faults.append((f"{_after(before)} it comes back to {elm}", elm))
                break
            if prev and self.get(elm, prev) != before:
                faults.append((f"{elm} comes {_after(before)}, but its {prev} is {self.get(elm, prev)}", elm))
            seen.add(elm.id)
            items.append(elm)
            before, elm = elm, self.get(elm, next)
        if last and not faults and self.get(head, last) != before:
            faults.append((f"it ends with {before}, but {last} is {self.get(head, last)}", head))
        return Walk(items, faults)


def _after(before: Struct | None) -> str:
    """A place in a list."""
    return f"after {before}" if before else "at its head"


@dataclass(eq=False)
class Snapshot(Structs):
    """The whole machine at rest, and views of it that several invariants need.

    Args:
        pmaps: pmap -> {virtual page number: [frame, prot, wired, R, M]}.
        attrs: frame -> a PTE whose R and M are those of mappings since removed.
        slots: swap slot -> contents.
        frames: contents by frame number.
        tlbs: CPU -> (pmap, {virtual page number: [frame, writable, modified]}).
        locks: those that are held or wanted.
        page_size: bytes.
        bad_slots: swap slots of requests that the device has failed for good.
        tables: [pmap, number of the table, translations that it has room for, frame, translations in it] of each page
            table that is in memory.
        pm_objs: pmap -> the object of its page-table pages.
        blocks: contents of the disk, by block.
    """

    pmaps: dict[int, dict[int, list[int]]]
    attrs: dict[int, list[int]]
    slots: dict[int, tuple[int, ...]]
    frames: list[tuple[int, ...]]
    tlbs: dict[str, tuple[int, dict[int, list[int]]]]
    locks: Sequence[LockState]
    page_size: int
    bad_slots: frozenset[int] = frozenset()
    tables: Sequence[list[int]] = ()
    pm_objs: dict[int, Struct] = field(default_factory=dict)
    blocks: Sequence[Sequence[int]] = ()

    @view
    def queues(self) -> dict[str, Walk]:
        """The page queues by name."""
        links = ("pageq_next", "pageq_prev", "tqh_last")
        return {name: self.walk(head, "tqh_first", Page, *links) for name, head in QUEUES.items()}

    @view
    def queues_of(self) -> dict[int, list[str]]:
        """Page id -> names of the queues it is on."""
        on: dict[int, list[str]] = {}
        for name, queue in self.queues.items():
            for page in queue.items:
                on.setdefault(page.id, []).append(name)
        return on

    @view
    def pages(self) -> list[Page]:
        """Pages that are not free."""
        return [page for page in self.all(Page) if not self.num(page, "pqflags") & PQ_FREE]

    @view
    def ptps(self) -> list[Page]:
        """Page-table pages."""
        return [page for page in self.pages if isinstance(self.get(page, "uobject"), Pmap)]

    @view
    def free_pages(self) -> list[Page]:
        return [page for page in self.all(Page) if self.num(page, "pqflags") & PQ_FREE]

    @view
    def afree(self) -> Walk:
        """The free list of anons."""
        return self.walk(uvm, "afree", Anon, "an_nxt")

    @view
    def aio_done(self) -> Walk:
        """Pageouts that are done and not yet reaped."""
        return self.walk(uvm, "aio_done_first", Buf, "next")

    @view
    def free_anons(self) -> set[int]:
        """Ids of the anons on the free list."""
        return {anon.id for anon in self.afree.items}

    @view
    def anons(self) -> list[Anon]:
        """Anons that are not on the free list."""
        return [anon for anon in self.all(Anon) if anon.id not in self.free_anons]

    def amap_array(self, amap: Amap, name: str) -> list[Value]:
        """The elements of one of an amap's three arrays; [] if it has none."""
        array = self.follow(amap, name, AmapArray)
        return [] if array is None else self.array(array)

    @view
    def amap_anons(self) -> dict[int, list[Value]]:
        """Amap id -> the elements of am_anon."""
        return {amap.id: self.amap_array(amap, "am_anon") for amap in self.all(Amap)}

    @view
    def anon_slots(self) -> Counter[int]:
        """Anon id -> number of amap slots that name it."""
        return Counter(anon.id for anons in self.amap_anons.values() for anon in anons if self.live(anon, Anon))

    @view
    def amap_entries(self) -> Counter[int]:
        """Amap id -> number of map entries that refer to it."""
        refs = (self.follow(entry, "aref_amap", Amap) for entry in self.all(VmMapEntry))
        return Counter(amap.id for amap in refs if amap is not None)

    @view
    def lent(self) -> list[tuple[Loan, Value]]:
        """What is on loan to the kernel, page by page or anon by anon, and to whom."""
        pairs = []
        for loan in self.all(Loan):
            array: Array | None = self.follow(loan, "l_result", LoanArray)
            pairs += [(loan, lent) for lent in ([] if array is None else self.array(array))]
        return pairs

    @view
    def loans(self) -> Counter[int]:
        """Page or anon id -> number of loans to the kernel."""
        return Counter(lent.id for _, lent in self.lent if self.live(lent, Page) or self.live(lent, Anon))

    @view
    def entries(self) -> dict[VmMap, Walk]:
        """Map -> its entries; the header, at which the ring closes, is not among them."""
        return {map: self._ring(map) for map in (*self.all(VmMap), *self.all(VmMapIntrsafe))}

    @view
    def submaps(self) -> dict[VmMap, VmMapEntry]:
        """Submap -> the entry of kernel_map that it has taken over."""
        entry_of: dict[VmMap, VmMapEntry] = {}
        for entry in self.all(VmMapEntry):
            submap = self.follow(entry, "sub_map", VmMap) if self.num(entry, "etype") & UVM_ET_SUBMAP else None
            if submap is not None:
                entry_of[submap] = entry
        return entry_of

    @view
    def kentries(self) -> Walk:
        """Map entries for interrupt-safe maps that are free."""
        if uvm.id not in self.heap:
            return Walk([], [])
        return self.walk(uvm, "kentry_free", VmMapEntry, "free_next")

    @view
    def kernel_pages(self) -> dict[int, Page]:
        """Frame -> page of a kernel object."""
        owned = ((page, self.get(page, "uobject")) for page in self.pages)
        return {
            page.frame: page
            for page, uobj in owned
            if self.live(uobj, UvmObject) and self.num(uobj, "uo_refs") in (UVM_OBJ_KERN, UVM_OBJ_INTRSAFE_KERN)
        }

    def _ring(self, map: VmMap) -> Walk:
        header = self.follow(map, "header", VmMapEntry)
        if header is None:
            return Walk([], [(f"its header is {self.get(map, 'header')!r}, which is not a live entry", map)])
        return self.walk(header, "next", VmMapEntry, "next", "prev", "prev")

    @view
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

    @view
    def translations(self) -> list[Translation]:
        """Every PTE of every map."""
        mapped = []
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
                mapped.append(Translation(map, va, pte, inside, anon, page))
        return mapped

    @view
    def sound_translations(self) -> list[Translation]:
        """Those that name the page they should."""
        return [
            translation
            for translation in self.translations
            if translation.page is not None and translation.page.frame == translation.pte[FRAME]
        ]

    @view
    def modified(self) -> set[int]:
        """Frames with M set in some mapping, present or removed."""
        ptes = [pte for table in self.pmaps.values() for pte in table.values() if pte[MOD]]
        return {pte[FRAME] for pte in ptes} | {frame for frame, attr in self.attrs.items() if attr[MOD]}

    @view
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

    @view
    def objects(self) -> list[UvmObject]:
        """Those of files and of shared memory."""
        pagers = (UVM_PGOPS_VNODE, UVM_PGOPS_AOBJ)
        return [uobj for uobj in self.all(UvmObject) if self.num(uobj, "pgops") in pagers]

    @view
    def memqs(self) -> dict[UvmObject, Walk]:
        """Object -> the list of its pages."""
        links = ("memq_first", Page, "listq_next", "listq_prev", "memq_last")
        return {uobj: self.walk(uobj, *links) for uobj in self.objects}

    @view
    def object_refs(self) -> Counter[int]:
        """Object id -> number of map entries and shared memory segments that refer to it."""
        refs = [self.follow(entry, "object", UvmObject) for entry in self.all(VmMapEntry)]
        refs += [self.follow(seg, "shm_object", UvmObject) for seg in self.all(Shm)]
        return Counter(uobj.id for uobj in refs if uobj is not None)

    @view
    def swapped(self) -> list[Swapped]:
        """What anons and aobjs have in swap."""
        holders = [
            Swapped(anon, 0, self.num(anon, "an_swslot"), self.follow(anon, "an_page", Page)) for anon in self.anons
        ]
        for aobj in self.all(Aobj):
            uobj = self.follow(aobj, "u_obj", UvmObject)
            array: Array | None = self.follow(aobj, "u_swslots", AobjSlots)
            if uobj is None or array is None:
                continue  # LEAK-1
            for pageidx, slot in enumerate(self.array(array)):
                page = self.object_pages.get((uobj.id, pageidx * self.page_size))
                holders.append(Swapped(uobj, pageidx, slot if isinstance(slot, int) else 0, page))
        return [holder for holder in holders if holder.slot != SWSLOT_NONE]

    @view
    def slot_users(self) -> dict[int, list[Struct]]:
        """Swap slot -> the anons and the aobjs' objects that have it."""
        users: dict[int, list[Struct]] = {}
        for swapped in self.swapped:
            if swapped.slot > SWSLOT_NONE:
                users.setdefault(swapped.slot, []).append(swapped.owner)
        return users

    @view
    def slot_of(self) -> dict[tuple[int, int], int]:
        """(owner id, number of the page in it) -> swap slot."""
        return {(swapped.owner.id, swapped.pageidx): swapped.slot for swapped in self.swapped}
