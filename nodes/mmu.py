"""The node that owns the pmaps: page tables with R/M and wired bits, pv lists, shootdowns.

An operation that takes away or narrows a translation, or clears a bit that a
TLB may have cached, names in its answer the pages that the asking CPU has to
flush. If other CPUs may have cached one of these pages, the node sends an IPI to each such
CPU, including the asking CPU (an interrupt may use its TLB meanwhile), and answers WAIT
until the last CPU has acknowledged.

Which CPUs may have cached a page is known exactly: only a walk fills a TLB, and only what
has been acknowledged is flushed. So a request that narrows a translation waits for a CPU
that an earlier request has interrupted, and that has not flushed yet.
A mapping that replaces another mapping exists before the old mapping is gone from
every TLB (`replaced`). Until then no thread may write through it; otherwise threads of one
process see two pages at one address: a finding.

R and M of a removed mapping are kept per frame (UVM's pmap modules keep them in
the pv head). An MMU that does not keep these bits (`emulated`: alpha, pmax) traps
where one of them would be set, and is told so by pmap_emulate_reference(); as on
the alpha a page that is marked by way of one mapping traps in none.

A translation has the generation of the page that it was made for: the memory tells by it an
access to a page that has been freed since.

Page tables can be real pages (`per_table`). A node cannot allocate: an enter that
lacks one is answered with the pmap's object, the kernel allocates a page of it,
gives it (pmap_ptp_enter) and asks again. A table whose last translation goes is
the kernel's again, by the answer that says so, and that is given when every TLB
has been flushed. A pmap without an object has its tables outside of memory.

Left out: mappings without a pv entry (the kernel's pmap_kenter_pa is an enter here); the contents of a page
table in its page's frame.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from nodes.node import Node
from shared.port.port import ANY_GEN
from shared.port.struct import Struct
from shared.uvm.param import (
    PMAP_KERNEL,
    PMAP_WIRED,
    VM_FAULT_INVALID,
    VM_FAULT_PROTECT,
    VM_FAULT_REFERENCE,
    VM_PROT_NONE,
    VM_PROT_READ,
    VM_PROT_WRITE,
)
from shared.wire.images import MmuImage
from shared.wire.messages import WAIT, Grant, Interrupt, KernelFinding

#: of a PTE; and of a page-table page, which has LIVE of them
FRAME, PROT, WIRED, REF, MOD, GEN = range(6)
LIVE = 1


class Mapping(NamedTuple):
    """The arguments of pmap_enter: the mapping that a CPU enters into a pmap.

    Attributes:
        va: virtual address, in bytes.
        flags: the access that caused it, and PMAP_WIRED.
        gen: generation of the frame's page.
    """

    va: int
    frame: int
    prot: int
    flags: int
    cpu: str
    gen: int = ANY_GEN


class Mmu(Node):
    """All pmaps.

    Args:
        page_size: bytes.
        unwired: mappings that are not wired, for which a pmap has room; None: as many as there are pages. Like many an
            MMU of the time it forgets the oldest to make room for another: a fault brings it back.
        per_table: translations in a page-table page; 0: tables are outside of memory.
        emulated: R and M are set by the kernel, not by the walk.

    Attributes:
        cached: page -> the CPUs that may have cached it.
        filled: CPU -> the pages that it has cached since it flushed its whole TLB, and perhaps flushed since.
    """

    kind = "mmu"
    arguments = {"pmap_enter": Mapping}

    def __init__(
        self, name: str, page_size: int, unwired: int | None = None, per_table: int = 0, emulated: bool = False
    ):
        super().__init__(name)
        self.page_size = page_size
        self.unwired, self.per_table, self.emulated = unwired, per_table, emulated
        self.next_pmap = 1
        self.pmaps: dict[int, dict[int, list[int]]] = {}
        self.pv: dict[int, dict[tuple[int, int], None]] = {}
        self.attrs: dict[int, list[int]] = {}
        self.objects: dict[int, Struct] = {}
        self.ptps: dict[tuple[int, int], list[int]] = {}
        self.cached: dict[tuple[int, int], dict[str, None]] = {}
        self.filled: dict[str, set[tuple[int, int]]] = {}
        self.next_shootdown = 1
        self.shootdowns: dict[int, tuple[str, dict[str, list[list[int]]], object]] = {}
        self.replaced: dict[tuple[int, int], tuple[int, int]] = {}

    # -- life of a pmap ------------------------------------------------------

    def op_pmap_create(self, ctx: str, target: int) -> list[int]:
        """[its number, whether it wants an object for page-table pages]"""
        pmap = self.next_pmap
        self.next_pmap += 1
        self.pmaps[pmap] = {}
        return [pmap, int(self.per_table > 0)]

    def op_pmap_bootstrap(self, ctx: str, target: int) -> None:
        """Make the kernel's own pmap, which has a number of its own; at boot."""
        self.pmaps[PMAP_KERNEL] = {}

    def op_pmap_object(self, ctx: str, pmap: int, obj: Struct) -> None:
        self.objects[pmap] = obj

    def op_pmap_destroy(self, ctx: str, pmap: int) -> object:
        """The pmap's object, if it has one."""
        del self.pmaps[pmap]
        return self.objects.pop(pmap, None)

    def op_pmap_activate(self, ctx: str, pmap: int, cpu: str) -> None:
        """The CPU loads this pmap and flushes its TLB."""
        self._flushed(cpu, self.filled.pop(cpu, ()))

    # -- the hardware's walk -------------------------------------------------

    def op_pmap_walk(self, ctx: str, pmap: int, vpn: int, write: int, cpu: str) -> list[int] | int:
        """TLB refill: [frame, writable, modified, generation], setting R, and M on a write; or the type of fault."""
        pte = self.pmaps[pmap].get(vpn)
        if pte is None:
            return VM_FAULT_INVALID
        if not pte[PROT] & (VM_PROT_WRITE if write else VM_PROT_READ):
            return VM_FAULT_PROTECT
        if self.emulated and not self._bit(pte[FRAME], MOD if write else REF):
            return VM_FAULT_REFERENCE
        pte[REF] = 1
        if write:
            if (pmap, vpn) in self.replaced:
                self._written_too_early(pmap, vpn, pte[FRAME], cpu)
            pte[MOD] = 1
        self.cached.setdefault((pmap, vpn), {})[cpu] = None
        self.filled.setdefault(cpu, set()).add((pmap, vpn))
        return [pte[FRAME], pte[PROT] & VM_PROT_WRITE, pte[MOD], pte[GEN]]

    def op_pmap_emulate_reference(self, ctx: str, pmap: int, vpn: int, write: int) -> None:
        """Mark the page as used, or modified; nothing if it is not mapped any more."""
        pte = self.pmaps[pmap].get(vpn)
        if pte is not None:
            pte[REF] = 1
            pte[MOD] |= write

    # -- requests ------------------------------------------------------------

    def op_pmap_ptp_enter(self, ctx: str, pmap: int, va: int, frame: int) -> int:
        """A page-table page for `va`; 0 if there is one already."""
        key = pmap, va // self.page_size // self.per_table
        if key in self.ptps:
            return 0
        self.ptps[key] = [frame, 0]
        return 1

    def op_pmap_enter(self, ctx: str, pmap: int, new: Mapping) -> object:
        table, vpn = self.pmaps[pmap], new.va // self.page_size
        old = table.get(vpn)
        if pmap in self.objects and old is None:
            ptp = self.ptps.get((pmap, vpn // self.per_table))
            if ptp is None:
                return [self.objects[pmap], []]
            ptp[LIVE] += 1
        stale = []
        replaced = -1
        if old is not None:
            if old[FRAME] != new.frame or old[PROT] & ~new.prot:
                stale = [(pmap, vpn)]
            if old[FRAME] != new.frame:
                self._unmap(pmap, vpn)
                replaced = old[FRAME]
                old = None
        ref = int(bool(new.flags & (VM_PROT_READ | VM_PROT_WRITE))) | (old[REF] if old else 0)
        mod = int(bool(new.flags & VM_PROT_WRITE)) | (old[MOD] if old else 0)
        table[vpn] = [new.frame, new.prot, int(bool(new.flags & PMAP_WIRED)), ref, mod, new.gen]
        self.pv.setdefault(new.frame, {})[(pmap, vpn)] = None
        if self.unwired is not None:
            stale += self._make_room(pmap, vpn, self.unwired)
        answer = self._shoot(ctx, new.cpu, stale, 0)
        if answer is WAIT and replaced >= 0:
            self.replaced[(pmap, vpn)] = (self.next_shootdown - 1, replaced)
        return answer

    def op_pmap_remove(self, ctx: str, pmap: int, start: int, end: int, cpu: str) -> object:
        stale = [(pmap, vpn) for vpn in sorted(self.pmaps[pmap]) if start <= vpn * self.page_size < end]
        return self._shoot(ctx, cpu, stale, self._drop(stale))

    def op_pmap_protect(self, ctx: str, pmap: int, start: int, end: int, prot: int, cpu: str) -> object:
        table = self.pmaps[pmap]
        inside = [(pmap, vpn) for vpn in sorted(table) if start <= vpn * self.page_size < end]
        stale, ptps = [], None
        if not prot & VM_PROT_READ:
            # A wired one stays, without access: by it munlock will find the page.
            prot = VM_PROT_NONE
            stale = [page for page in inside if not table[page[1]][WIRED]]
            ptps = self._drop(stale)
            inside = [page for page in inside if page[1] in table]
        stale += self._narrow(inside, prot)
        if self.erratum("pmap_protect.no-shootdown"):
            return self._flush_own(cpu, stale, ptps)
        return self._shoot(ctx, cpu, stale, ptps)

    def op_pmap_unwire(self, ctx: str, pmap: int, va: int) -> None:
        pte = self.pmaps[pmap].get(va // self.page_size)
        if pte is not None:
            pte[WIRED] = 0

    def op_pmap_extract(self, ctx: str, pmap: int, va: int) -> int | None:
        pte = self.pmaps[pmap].get(va // self.page_size)
        return None if pte is None else pte[FRAME]

    def op_pmap_allows(self, ctx: str, pmap: int, va: int, prot: int) -> int:
        pte = self.pmaps[pmap].get(va // self.page_size)
        return int(pte is not None and not prot & ~pte[PROT])

    def op_pmap_page_protect(self, ctx: str, frame: int, prot: int, cpu: str) -> object:
        return self._protect(ctx, list(self.pv.get(frame, ())), prot, cpu)

    def op_pmap_page_protect_unwired(self, ctx: str, frame: int, prot: int, cpu: str) -> object:
        loose = [(pmap, vpn) for pmap, vpn in self.pv.get(frame, ()) if not self.pmaps[pmap][vpn][WIRED]]
        return self._protect(ctx, loose, prot, cpu)

    def op_pmap_is_mapped(self, ctx: str, frame: int) -> int:
        return int(bool(self.pv.get(frame)))

    def op_pmap_is_modified(self, ctx: str, frame: int) -> int:
        return self._bit(frame, MOD)

    def op_pmap_is_referenced(self, ctx: str, frame: int) -> int:
        return self._bit(frame, REF)

    def op_pmap_clear_modify(self, ctx: str, frame: int, cpu: str) -> object:
        return self._clear(ctx, frame, MOD, cpu)

    def op_pmap_clear_reference(self, ctx: str, frame: int, cpu: str) -> object:
        return self._clear(ctx, frame, REF, cpu)

    def op_pmap_ack(self, ctx: str, shootdown: int, cpu: str) -> None:
        """A CPU has flushed what its IPI named; the last one lets the asking context continue."""
        initiator, waiting, reply = self.shootdowns[shootdown]
        self._flushed(cpu, [(pmap, vpn) for pmap, vpn in waiting.pop(cpu)])
        if not waiting:
            del self.shootdowns[shootdown]
            self.replaced = {page: entry for page, entry in self.replaced.items() if entry[0] != shootdown}
            self.out.append(Grant(initiator, reply))

    # -- inside --------------------------------------------------------------

    def _written_too_early(self, pmap: int, vpn: int, frame: int, cpu: str) -> None:
        """A CPU is about to write to a page that took another's place; may others still read the other page?

        Reported once: if the detector is off, the CPU walks again.
        """
        number, old = self.replaced.pop((pmap, vpn))
        late = sorted(self.shootdowns[number][1].keys() - {cpu})
        if late:
            text = (
                f"TLB-2: no page is written while a CPU may have another one cached at its address: {cpu} writes to "
                f"page:{frame} at {vpn * self.page_size:#x} of pmap {pmap}, {late[0]} may still read page:{old} there"
            )
            raise KernelFinding("invariant", text, f"page:{old}")

    def _protect(self, ctx: str, mappings: list[tuple[int, int]], prot: int, cpu: str) -> object:
        if prot == VM_PROT_NONE:
            return self._shoot(ctx, cpu, mappings, self._drop(mappings))
        return self._shoot(ctx, cpu, self._narrow(mappings, prot), None)

    def _drop(self, pages: list[tuple[int, int]]) -> list[list[object]] | None:
        """Remove mappings; returns [object, frame] of each page-table page that is left without any, or None."""
        ptps: list[list[object]] = []
        for pmap, vpn in pages:
            self._unmap(pmap, vpn)
            if pmap in self.objects:
                key = pmap, vpn // self.per_table
                ptp = self.ptps[key]
                ptp[LIVE] -= 1
                if not ptp[LIVE]:
                    del self.ptps[key]
                    ptps.append([self.objects[pmap], ptp[FRAME]])
        return ptps or None

    def _unmap(self, pmap: int, vpn: int) -> None:
        """Remove a mapping, keeping its R and M for the page."""
        pte = self.pmaps[pmap].pop(vpn)
        frame = pte[FRAME]
        del self.pv[frame][(pmap, vpn)]
        if pte[REF] or pte[MOD]:
            attr = self.attrs.setdefault(frame, [0, 0, 0, 0, 0])
            attr[REF] |= pte[REF]
            attr[MOD] |= pte[MOD]

    def _make_room(self, pmap: int, vpn: int, most: int) -> list[tuple[int, int]]:
        """`vpn` was entered just now: let the oldest unwired mappings go if there are more than `most` of them."""
        table = self.pmaps[pmap]
        table[vpn] = table.pop(vpn)
        loose = [page for page, pte in table.items() if not pte[WIRED]]
        gone = [(pmap, page) for page in loose[: max(len(loose) - most, 0)]]
        for _, page in gone:
            self._unmap(pmap, page)
        return gone

    def _narrow(self, mappings: list[tuple[int, int]], prot: int) -> list[tuple[int, int]]:
        narrowed = []
        for pmap, vpn in mappings:
            pte = self.pmaps[pmap][vpn]
            if pte[PROT] & ~prot:
                pte[PROT] &= prot
                narrowed.append((pmap, vpn))
        return narrowed

    def _ptes(self, frame: int) -> list[list[int]]:
        attr = self.attrs.get(frame)
        return ([attr] if attr else []) + [self.pmaps[pmap][vpn] for pmap, vpn in self.pv.get(frame, ())]

    def _bit(self, frame: int, bit: int) -> int:
        return int(any(pte[bit] for pte in self._ptes(frame)))

    def _clear(self, ctx: str, frame: int, bit: int, cpu: str) -> object:
        was = self._bit(frame, bit)
        stale = [(pmap, vpn) for pmap, vpn in self.pv.get(frame, ()) if self.pmaps[pmap][vpn][bit]]
        for pte in self._ptes(frame):
            pte[bit] = 0
        return self._shoot(ctx, cpu, stale, was)

    def _shoot(self, ctx: str, cpu: str, stale: list[tuple[int, int]], result: object) -> object:
        """Answer [result, pages for the asking CPU to flush], or WAIT: then by an IPI, and when all have flushed."""
        cpus: dict[str, list[list[int]]] = {}
        for page in stale:
            for sharer in self.cached.get(page, ()):
                cpus.setdefault(sharer, []).append(list(page))
        own = cpus.get(cpu, [])
        if not cpus or (own and len(cpus) == 1):
            if own:
                self._flushed(cpu, stale)
            return [result, own]
        number = self.next_shootdown
        self.next_shootdown += 1
        self.shootdowns[number] = (ctx, cpus, [result, []])
        self.out += [Interrupt(f"{sharer}.ipi", [number, pages]) for sharer, pages in sorted(cpus.items())]
        return WAIT

    def _flush_own(self, cpu: str, stale: list[tuple[int, int]], result: object) -> object:
        """Answer [result, pages for the asking CPU to flush]; what others may have cached stays there."""
        mine = [page for page in stale if cpu in self.cached.get(page, ())]
        self._flushed(cpu, mine)
        return [result, [list(page) for page in mine]]

    def _flushed(self, cpu: str, pages: Iterable[tuple[int, int]]) -> None:
        """A CPU has these pages cached no more."""
        for page in pages:
            cpus = self.cached.get(page)
            if cpus is not None:
                cpus.pop(cpu, None)
                if not cpus:
                    del self.cached[page]

    def image(self) -> MmuImage:
        return {
            "next": self.next_pmap,
            "pmaps": [(pmap, [[vpn, *pte] for vpn, pte in table.items()]) for pmap, table in self.pmaps.items()],
            "attrs": [[frame, *attr] for frame, attr in self.attrs.items()],
            "objects": list(self.objects.items()),
            "tables": [[pmap, number, self.per_table, *ptp] for (pmap, number), ptp in self.ptps.items()],
        }

    def load_image(self, image: MmuImage) -> None:
        super().load_image(image)
        self.next_pmap = image["next"]
        self.pmaps, self.pv = {}, {}
        for pmap, table in image["pmaps"]:
            self.pmaps[pmap] = entries = {}
            for entry in table:
                entries[entry[0]] = pte = list(entry[1:])
                self.pv.setdefault(pte[FRAME], {})[(pmap, entry[0])] = None
        self.attrs = {entry[0]: list(entry[1:]) for entry in image["attrs"]}
        self.objects = dict(image["objects"])
        self.ptps = {(pmap, table): list(ptp) for pmap, table, _, *ptp in image["tables"]}
        self.cached, self.filled = {}, {}
        self.shootdowns, self.next_shootdown, self.replaced = {}, 1, {}
