"""The state of a node as plain data (`Node.image`), by the kind of node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypedDict, cast

from shared.port.heap import Heap
from shared.port.struct import Struct

Words = Sequence[int]
#: two values that belong together: a tuple, or the list that it has become on its way through a message
Pair = Sequence[Any]
#: node -> its image
Images = Mapping[str, object]


class MemoryImage(TypedDict):
    """Attributes:
    heap: [struct id, generation, field 0, field 1, ...]; those of other shards are not among them.
    next: (kind, index of the next struct of this kind).
    frames: contents by frame number; those of other shards are out of date.
    shard: [this shard, number of shards].
    """

    heap: Sequence[Sequence[Any]]  # a field holds what its struct declares
    next: Sequence[tuple[int, int]]
    frames: Sequence[Words]
    shard: Sequence[int]


class MmuImage(TypedDict):
    """Attributes:
    next: number of the next pmap.
    pmaps: (pmap, [virtual page number, *PTE] of each translation).
    attrs: [frame, *PTE with the R and M of removed mappings].
    objects: (pmap, the object of its page-table pages).
    tables: [pmap, number of the table, translations that it has room for, frame, translations in it].
    """

    next: int
    pmaps: Sequence[Pair]
    attrs: Sequence[list[int]]
    objects: Sequence[tuple[int, Struct]]
    tables: Sequence[list[int]]


class SwapImage(TypedDict):
    """Attributes:
    slots: (slot, contents).
    bad: slots of requests that the device has failed for good.
    old: built with the old table of result codes.
    """

    slots: Sequence[Pair]
    bad: list[int]
    old: int


#: contents of the disk, by block
DiskImage = Sequence[Words]
#: (channel, its queue of (context, wmesg))
LocksImage = Sequence[Pair]


class DevicesImage(TypedDict):
    """Attributes:
    sent: numbers of the devices that were told to begin.
    """

    sent: list[int]


# The casts: the name of a node says of which kind its image is.


def memories(images: Images) -> Iterator[MemoryImage]:
    """Images of the memory nodes."""
    return (cast(MemoryImage, image) for name, image in images.items() if name.startswith("memory"))


def mmu(images: Images) -> MmuImage | None:
    """Image of the MMU, if it is there."""
    return cast("MmuImage | None", images.get("mmu"))


def swap(images: Images) -> SwapImage | None:
    """Image of the swap pager, if there is one."""
    return cast("SwapImage | None", images.get("swap_pager"))


def disk(images: Images) -> DiskImage:
    """Image of the disk; () if there is none."""
    return cast(DiskImage, images.get("disk", ()))


def heap_of(images: Images) -> Heap:
    """The heap, all shards together."""
    heap = Heap()
    for image in memories(images):
        for key, gen, *fields in image["heap"]:
            heap.add(key, gen, fields)
    return heap


def frames_of(images: Images) -> Iterator[tuple[int, Words]]:
    """Number and contents of every frame, from the memory that has it."""
    for image in memories(images):
        shard, shards = image["shard"]
        for number in range(shard, len(image["frames"]), shards):
            yield number, image["frames"][number]
