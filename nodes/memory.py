"""The kernel heap and the page frames.

Generations make a use after free visible: a handle is only good for the life of
the struct in which it was made, and who ended that life is kept. If the run does not stop for that, the operation is
repeated with the address alone: it meets the struct that lives there now, as
memory itself would have it. It does not see a stale address in a handle that is good for any life, as PHYS_TO_VM_PAGE
gives, nor a stale handle that is not used. Frames are tuples of 64-bit words; a frame's page is the
struct with its number, and a word is accessed by a translation to a page of one generation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from nodes.node import Node
from shared.port.heap import HEADER, Heap, HeapRecord
from shared.port.port import ANY_GEN
from shared.port.struct import INDEX_MASK, KINDS, Struct
from shared.uvm.param import PQ_FREE
from shared.uvm.structs import Page
from shared.wire.images import MemoryImage, heap_of
from shared.wire.messages import KernelFinding

#: of a struct's life: the context that ended it, in which functions, by which of its operations
End = tuple[str, str, int]


class WordWrite(NamedTuple):
    """The arguments of word_write: a word that is written through a translation.

    Attributes:
        offset: in the frame, in bytes.
        va: virtual address, in bytes.
        proc: whose address space it is in. For the record: the memory oracle asks for it.
        gen: generation of the page that the translation was made for.
    """

    offset: int
    value: int
    va: int
    proc: int
    gen: int = ANY_GEN


class Memory(Node):
    """One shard of memory: structs and frames whose number is `shard` modulo `shards`.

    Args:
        frames: number of frames of the whole machine.
        page_size: bytes per frame, a multiple of 8.
    """

    kind = "memory"
    arguments = {"word_write": WordWrite}

    def __init__(self, name: str, frames: int, page_size: int, shard: int = 0, shards: int = 1):
        super().__init__(name)
        self.shard, self.shards = shard, shards
        self.words = page_size // 8
        self.heap = Heap()
        self.next_index: dict[int, int] = {}
        self.frames: list[tuple[int, ...]] = [(0,) * self.words] * frames
        self.kept: list[tuple[int, ...]] = []
        self.kept_index: dict[int, int] = {}
        self.ended: dict[tuple[int, int], End] = {}  # struct and generation -> who ended that life

    def record(self, obj: Struct) -> HeapRecord:
        """The struct's heap record, if the handle is still good."""
        rec = self.heap.find(obj)
        if rec is None or not rec.lives(obj):
            what = "freed" if rec is None else f"recycled (generation {rec.gen}, handle of {obj.gen})"
            text = f"{obj} is used after it was {what}: {self._who_ended(obj)}"
            raise KernelFinding("use-after-free", text, str(obj), fatal=rec is None)
        return rec

    def inside(self, obj: Struct, slot: int) -> HeapRecord:
        """The struct's heap record, if it has such a field or element: what lies behind it is mapped nowhere."""
        rec = self.record(obj)
        if slot - HEADER >= len(rec.fields):
            element = type(obj).element
            at = slot - (element.slot if element is not None else HEADER)
            text = f"panic: trap: {obj} has {len(rec) - slot + at} elements; number {at} is not mapped"
            raise KernelFinding("panic", text, str(obj), fatal=True)
        return rec

    def _who_ended(self, obj: Struct) -> str:
        """Who ended the life in which the handle was made; of a handle that is good for any life, the last life."""
        last = self.ended.get((obj.id, obj.gen))
        if obj.gen == ANY_GEN:
            last = next((end for (id, _), end in reversed(self.ended.items()) if id == obj.id), None)
        if last is None:
            return "that was before the run began"
        ctx, by, n = last
        return f"{ctx} freed it in {by or 'user mode'}, its operation {n}"

    def _end(self, obj: Struct, gen: int, end: End) -> None:
        self.ended[obj.id, gen] = end

    def op_load(self, ctx: str, target: int, obj: Struct, field: str, slot: int, peek: bool = False) -> object:
        return self.inside(obj, slot).fields[slot - HEADER]

    def op_store(self, ctx: str, target: int, obj: Struct, field: str, slot: int, value: object) -> None:
        rec = self.inside(obj, slot)
        self.heap.touch(obj.id, rec)
        rec.fields[slot - HEADER] = value

    def op_alloc(self, ctx: str, target: int, kind: int, length: int) -> Struct:
        index = self.next_index.get(kind, self.shard)
        self.next_index[kind] = index + self.shards
        obj: Struct = KINDS[kind].at(index)
        fields: list[object] = list(KINDS[kind].defaults)
        if length:
            fields += [None] * length
        obj.rec = self.heap.add(obj.id, 0, fields)
        return obj

    def op_free(self, ctx: str, target: int, obj: Struct, by: str, n: int) -> None:
        rec = self.record(obj)
        self._end(obj, rec.gen, (ctx, by, n))
        self.heap.remove(obj.id)

    def op_renew(self, ctx: str, target: int, obj: Struct, by: str, n: int) -> int:
        rec = self.record(obj)
        self._end(obj, rec.gen, (ctx, by, n))
        self.heap.renew(obj.id, rec.gen + 1, list(type(obj).defaults))
        return rec.gen

    def op_identify(self, ctx: str, target: int, obj: Struct) -> int:
        return self.record(obj).gen

    # (the process is for the record: the memory oracle asks for it)

    def _translated(self, does: str, va: int, frame: int, gen: int) -> None:
        """Is the frame's page still that for which the translation was made?

        Args:
            does: the context and its access, in words.
            va: that it accesses.
        """
        at = Page.at(frame)
        rec = self.heap.get(at.id)
        if rec is None or gen in (rec.gen, ANY_GEN):
            return
        page = Page(at.id, gen)
        now = "it is free" if rec[Page.fields["pqflags"].slot] & PQ_FREE else "it is in use again"
        ended = f"which was freed since: {self._who_ended(page)}; {now}"
        text = f"{does} {va:#x} by way of a translation to {page}, {ended}"
        raise KernelFinding("freed-page-access", text, str(page))

    def op_word_read(self, ctx: str, frame: int, offset: int, va: int, proc: int, gen: int = ANY_GEN) -> int:
        self._translated(f"{ctx} reads", va, frame, gen)
        return self.frames[frame][offset >> 3]

    def op_word_write(self, ctx: str, frame: int, write: WordWrite) -> None:
        self._translated(f"{ctx} writes to", write.va, frame, write.gen)
        words, at = self.frames[frame], write.offset >> 3
        self.frames[frame] = (*words[:at], write.value, *words[at + 1 :])

    def op_frame_store(self, ctx: str, frame: int, offset: int, value: int) -> None:
        """A word written by the kernel, past every page table."""
        words, at = self.frames[frame], offset >> 3
        self.frames[frame] = (*words[:at], value, *words[at + 1 :])

    def op_frame_zero(self, ctx: str, frame: int) -> None:
        self.frames[frame] = (0,) * self.words

    def op_frame_copy(self, ctx: str, frame: int, source: int) -> None:
        self.frames[frame] = self.frames[source]

    def op_frame_read(self, ctx: str, frame: int) -> tuple[int, ...]:
        return self.frames[frame]

    def op_frame_write(self, ctx: str, frame: int, words: Sequence[int]) -> None:
        self.frames[frame] = tuple(words)

    def image(self) -> MemoryImage:
        heap = [
            [key, rec.gen, *rec.fields]
            for key, rec in self.heap.records.items()
            if (key & INDEX_MASK) % self.shards == self.shard
        ]
        return {
            "heap": heap,
            "next": list(self.next_index.items()),
            "frames": list(self.frames),
            "shard": [self.shard, self.shards],
        }

    def load_image(self, image: MemoryImage) -> None:
        super().load_image(image)
        self.heap = heap_of({self.name: image})
        self.next_index = dict(image["next"])
        self.ended = {}
        self.frames = [tuple(words) for words in image["frames"]]

    def keep(self) -> None:
        self.heap.keep()
        self.kept, self.kept_index = list(self.frames), self.next_index.copy()

    def restore(self, image: MemoryImage) -> None:
        self.heap.restore()
        if self.admitted:
            super().load_image(image)
            self.next_index = self.kept_index.copy()
            self.ended = {}
            self.frames[:] = self.kept
