"""Kernel structs whose every field access is an operation, and whose guards run.

A struct is declared as UVM's headers declare it, field markings included:

    class Anon(Struct, kind=3):
        guards = {"o": own("an_lock"), "a": uvm_lock("afreelock")}
        an_lock = simplelock("anon")
        an_ref: Field[int] = field("o")
        an_page: Field[Page | None] = field("o")
        an_nxt: Field[Anon | None] = union("an_page", "a")

`anon.an_ref -= 1` is then a load and a store. A marking names the locks that
guard the field, in UVM's own notation: `o`, `o|p` (either), `o&p` (both), or
`o|p read, o&p write`. The same string is read by people, by the thinning rule
and by the race detector. Markings without a lock:

    const   set while the struct is private to its creator, never changed after
    stat    an unlocked event counter: no operation, no race (kept per CPU)
    hint    with a guard: deliberately read without it; never a race

A *handle* is an address with a generation: two handles are equal if they name
the same address; using a handle whose generation has passed is a use after free.
No Python container ever sits in a struct.

Handles are (kind, index) packed into one integer; locks are numbered inside
their struct, and a lock's key is the struct's id and that number.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, ClassVar, Generic, Self, TypeVar, overload

from shared.locks.order import bit_of
from shared.port.heap import HEADER, Heap, HeapRecord
from shared.port.lockref import LockRef
from shared.port.port import ANY_GEN, here

KIND_SHIFT = 20
INDEX_MASK = (1 << KIND_SHIFT) - 1
LOCK_SHIFT = 4

T = TypeVar("T")
KINDS: dict[int, type[Struct]] = {}
KIND_NAMES: dict[str, type[Struct]] = {}


class Guard:
    """Which lock guards a field: lock `lock` of the struct itself, or of the struct that `pointer` names.

    Attributes:
        follows: it has to follow a pointer.
        fixed: key of the lock if that is the same for every struct and known by now; else -1.
        from_, slot: the kind of struct that had the pointer last, and the pointer's place in it.
        seen, number: the kind of struct that had the lock last, and the lock's number in it.
    """

    __slots__ = ("fixed", "follows", "from_", "lock", "number", "pointer", "seen", "slot")

    def __init__(self, lock: str, pointer: str | None = None):
        self.lock, self.pointer = lock, pointer
        self.fixed = self.number = self.slot = -1
        self.follows = pointer is not None
        self.seen: type[Struct] | None = None
        self.from_: type[Struct] | None = None

    def key(self, heap: Heap, obj: Struct) -> int:
        """Key of the lock, or -1 if nothing guards the field just now.

        Args:
            heap: in which pointers are followed; no operation.
            obj: the struct whose field is accessed.
        """
        target: Struct | None = obj
        if self.pointer is not None:
            if type(obj) is not self.from_:
                self.from_, self.slot = type(obj), type(obj).fields[self.pointer].slot
            target = heap.peek(obj, self.slot)
        return -1 if target is None else self.key_in(target)

    def key_in(self, target: Struct) -> int:
        """Key of this guard's lock in the struct that has it."""
        if type(target) is not self.seen:
            self.seen = type(target)
            self.number = target.lock_fields[self.lock].index
        return target.id << LOCK_SHIFT | self.number


def own(lock: str) -> Guard:
    """Guarded by a lock inside the same struct."""
    return Guard(lock)


def via(pointer: str, lock: str) -> Guard:
    """Guarded by a lock inside the struct that field `pointer` names."""
    return Guard(lock, pointer)


class FieldBase:
    """A field of a struct: its name, its slot and what guards it.

    Attributes:
        read, write: alternatives, each a tuple of guards that must all be held.
        read_any, write_any: of these, the guards that suffice alone, those first that need no pointer.
        mode: "guarded", "const" or "stat".
        hint: read without its guard on purpose.
        peek: this one access skips its guard on purpose (see `unlocked`), which its record says.
        number: declared as a Field[int].
        link: it chains structs into a list, and says nothing about the struct itself.
        type: what it is declared to hold, as "int" or "Page | None".
        own_lock: number of the lone lock of the same struct that guards it, or -1.
        indexed: it is an element of an array, which may not be there.
        const: its mode is "const".
        calm: the mark of the engine that has last found the field not racy (cluster/sim/heap.py).
    """

    __slots__ = (
        "calm",
        "const",
        "hint",
        "indexed",
        "key",
        "link",
        "marking",
        "mode",
        "name",
        "number",
        "offset",
        "own_lock",
        "peek",
        "read",
        "read_any",
        "slot",
        "type",
        "union_of",
        "write",
        "write_any",
    )

    def __init__(self, marking: str, hint: bool = False, union_of: str | None = None, link: bool = False):
        self.marking, self.hint, self.union_of, self.link = marking, hint, union_of, link
        self.peek = False
        self.mode = marking if marking in ("const", "stat") else "guarded"
        self.read: list[tuple[Guard, ...]] = []
        self.write: list[tuple[Guard, ...]] = []
        self.read_any: list[Guard] = []
        self.write_any: list[Guard] = []
        self.own_lock = -1
        self.const, self.indexed = marking == "const", False
        self.calm: object = None

    def is_hint(self, guarded: bool) -> bool:
        """Is this an access that needs no guard? Of such accesses only two writes can race.

        Args:
            guarded: the context holds the guard. Then a peek counts as a guarded access; a field that is declared a
                hint stays one.
        """
        return self.hint or (self.peek and not guarded)

    def again(self) -> Self:
        """A field that is declared as this field; it is not bound yet."""
        return type(self)(self.marking, self.hint, self.union_of, self.link)

    def bind(self, owner: type[Struct], name: str, slot: int, type_: str = "") -> None:
        """Say whose field it is, by what name, and where; `type_` is what it is declared to hold."""
        self.name, self.slot = name, slot
        self.key = f"{owner.kind_name}.{name}"
        self.type, self.number = type_, type_ == "int"
        if self.mode == "guarded":
            parts = dict.fromkeys(("read", "write"), self.marking)
            if "," in self.marking:
                parts = {word: expr for expr, word in (part.split() for part in self.marking.split(","))}
            self.read = _parse(parts["read"], owner)
            self.write = _parse(parts["write"], owner)
            self.read_any, self.write_any = _alone(self.read), _alone(self.write)
            lone = self.read[0][0]
            alone = self.read == self.write and len(self.read) == len(self.read[0]) == 1
            if alone and type(lone) is Guard and lone.pointer is None:  # the commonest case is checked without a call
                self.own_lock = owner.lock_fields[lone.lock].index


def _parse(expr: str, owner: type[Struct]) -> list[tuple[Guard, ...]]:
    return [tuple(owner.guards[letter] for letter in part.split("&")) for part in expr.split("|")]


def _alone(alternatives: list[tuple[Guard, ...]]) -> list[Guard]:
    return sorted((guards[0] for guards in alternatives if len(guards) == 1), key=lambda guard: guard.follows)


class Field(FieldBase, Generic[T]):
    """Descriptor: reading or assigning it is one operation."""

    __slots__ = ()

    @overload
    def __get__(self, obj: None, owner: object) -> Field[T]: ...
    @overload
    def __get__(self, obj: Struct, owner: object) -> T: ...
    def __get__(self, obj: Struct | None, owner: object) -> Any:
        if obj is None:
            return self
        return here.port.load(obj, self, self.slot)

    def __set__(self, obj: Struct, value: T) -> None:
        here.port.store(obj, self, self.slot, value)


class Stat(FieldBase):
    """An event counter, of this CPU: counters of all CPUs are summed at the end. Neither an operation nor a race."""

    __slots__ = ()

    @overload
    def __get__(self, obj: None, owner: object) -> Stat: ...
    @overload
    def __get__(self, obj: Struct, owner: object) -> int: ...
    def __get__(self, obj: Struct | None, owner: object) -> Stat | int:
        return self if obj is None else self.count()

    def __set__(self, obj: Struct, value: int) -> None:
        self.put(value)

    def count(self) -> int:
        return here.port.stats().get(self.name, 0)

    def put(self, value: int) -> None:
        here.port.stats()[self.name] = value


def field(marking: str, *, hint: bool = False) -> Field[T]:
    """A field with UVM's marking of the locks that guard it."""
    return Field(marking, hint)


def link(marking: str) -> Field[T]:
    """A field that chains structs into a list: TAILQ_ENTRY, LIST_ENTRY, or the two ends of a TAILQ_HEAD."""
    return Field(marking, link=True)


def stat() -> Stat:
    """An unlocked event counter."""
    return Stat("stat")


def union(other: str, marking: str, link: bool = False) -> Field[T]:
    """A second name, with a guard of its own, for the storage of field `other`."""
    return Field(marking, union_of=other, link=link)


class Lock:
    """Descriptor: `anon.an_lock` is a handle of that lock."""

    __slots__ = ("bit", "cls", "index", "name", "sleepable")
    index: int
    name: str

    def __init__(self, cls: str, sleepable: bool):
        self.cls, self.bit, self.sleepable = cls, bit_of(cls), sleepable

    def again(self) -> Lock:
        """A lock that is declared as this lock; it has no number yet."""
        return Lock(self.cls, self.sleepable)

    @overload
    def __get__(self, obj: None, owner: object) -> Lock: ...
    @overload
    def __get__(self, obj: Struct, owner: object) -> LockRef: ...
    def __get__(self, obj: Struct | None, owner: object) -> Lock | LockRef:
        return self if obj is None else self.of(obj)

    def of(self, obj: Struct) -> LockRef:
        """The handle of this lock of a struct."""
        rec = obj.rec
        if rec is None:
            return LockRef(obj.id << LOCK_SHIFT | self.index, self, obj)
        if not rec.locks:
            rec.locks = list(obj.locks())
        return rec.locks[self.index]


def simplelock(cls: str) -> Lock:
    """A spin lock of lock class `cls`."""
    return Lock(cls, sleepable=False)


def lockmgr(cls: str) -> Lock:
    """A sleepable shared/exclusive lock of lock class `cls`."""
    return Lock(cls, sleepable=True)


class Struct:
    """Base of every kernel struct; an instance is a handle (id, generation).

    Attributes:
        rec: its record in a heap that this process has, if that has been looked for (`Heap.find`).
        bits: of each field that is a set of flags, the prefix of their names, and the names.
        numbered_locks: those of `lock_fields`, by their numbers.
        swap_slots: fields that hold the numbers of swap slots, or the array of them.
    """

    __slots__ = ("gen", "id", "rec")
    guards: ClassVar[dict[str, Guard]] = {}
    bits: ClassVar[dict[str, tuple[str, dict[int, str]]]] = {}
    swap_slots: ClassVar[tuple[str, ...]] = ()
    kind: ClassVar[int]
    kind_name: ClassVar[str]
    fields: ClassVar[dict[str, FieldBase]]
    lock_fields: ClassVar[dict[str, Lock]]
    numbered_locks: ClassVar[tuple[Lock, ...]]
    element: ClassVar[FieldBase | None] = None
    defaults: ClassVar[list[None]]

    def __init__(self, id: int, gen: int = 0):
        self.id, self.gen = id, gen
        self.rec: HeapRecord | None = None

    def __init_subclass__(cls, kind: int, name: str | None = None, element: str | None = None) -> None:
        declared: dict[str, object] = {}  # text, or evaluated
        for base in reversed(cls.__mro__):
            declared.update(vars(base).get("__annotations__", {}))
        types = {key: str(text).rpartition("Field[")[2].removesuffix("]") for key, text in declared.items()}
        members = {key: value for key, value in vars(cls).items() if isinstance(value, (Lock, FieldBase))}
        for base in cls.__mro__[1:]:  # a struct that begins as another does has its fields and locks, by these names
            for key, value in {**getattr(base, "lock_fields", {}), **getattr(base, "fields", {})}.items():
                if key not in vars(cls):
                    members[key] = value.again()
                    setattr(cls, key, members[key])
        cls.declare(kind, name or cls.__name__.lower(), element, members, types)

    @classmethod
    def declare(
        cls, kind: int, name: str, element: str | None, members: dict[str, Lock | FieldBase], types: dict[str, str]
    ) -> None:
        """Number the locks and fields of a kind of struct, and make it known.

        Args:
            kind, name: its number and its name, which no other kind has.
            element: marking of its elements, if it is an array.
            members: its locks and fields by their names, those of the struct that it begins as behind its own.
            types: what they are declared to hold.
        """
        cls.kind, cls.kind_name = kind, name
        cls.fields, cls.lock_fields = {}, {}
        assert kind not in KINDS, f"two structs of kind {kind}"
        KINDS[kind] = KIND_NAMES[name] = cls
        slot = HEADER
        for key, value in members.items():
            if isinstance(value, Lock):
                value.name, value.index = key, len(cls.lock_fields)
                cls.lock_fields[key] = value
        cls.numbered_locks = tuple(cls.lock_fields.values())
        for key, value in members.items():
            if isinstance(value, FieldBase):
                if value.union_of is not None:
                    value.bind(cls, key, cls.fields[value.union_of].slot, types.get(key, ""))
                elif isinstance(value, Stat):
                    value.bind(cls, key, -1)
                else:
                    value.bind(cls, key, slot, types.get(key, ""))
                    slot += 1
                cls.fields[key] = value
        cls.defaults = [None] * (slot - HEADER)
        if element is not None:
            cls.element = FieldBase(element)
            cls.element.bind(cls, "[]", slot)
            cls.element.indexed = True

    @classmethod
    def at(cls, index: int, gen: int = 0) -> Self:
        """The handle of the struct number `index` of this kind."""
        return cls(cls.kind << KIND_SHIFT | index, gen)

    @property
    def index(self) -> int:
        """Number of this struct among those of its kind."""
        return self.id & INDEX_MASK

    def anything(self) -> Struct:
        """A handle of whatever lives at this address."""
        return type(self)(self.id, ANY_GEN)

    def lock_key(self, name: str) -> int:
        """Key of the lock field `name` of this struct."""
        return self.id << LOCK_SHIFT | self.lock_fields[name].index

    def locks(self) -> Iterator[LockRef]:
        """Every lock inside this struct."""
        for lock in self.lock_fields.values():
            yield LockRef(self.id << LOCK_SHIFT | lock.index, lock, self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Struct) and other.id == self.id

    def __hash__(self) -> int:
        return self.id

    def __str__(self) -> str:
        return f"{self.kind_name}:{self.id & INDEX_MASK}"

    def __repr__(self) -> str:
        gen = "*" if self.gen == ANY_GEN else self.gen
        return f"{self.kind_name}:{self.id & INDEX_MASK}#{gen}"

    def addressof(self, name: str) -> int:
        """`&obj->field`, for use as a sleep channel."""
        return self.id << 8 | self.fields[name].slot

    @property
    def address(self) -> int:
        """The struct's own address, for use as a sleep channel."""
        return self.id << 8


#: an index below 0 is one beyond every array, as an unsigned number is
FAR = 1 << 32


class Array(Struct, kind=0, name="array"):
    """Base of structs with elements: `a[i]` is one operation. Memory refuses an index that is not there, as a trap."""

    __slots__ = ()

    def __getitem__(self, i: int) -> Any:
        element = type(self).element
        assert element is not None
        return here.port.load(self, element, element.slot + (i if i >= 0 else FAR + i))

    def __setitem__(self, i: int, value: object) -> None:
        element = type(self).element
        assert element is not None
        here.port.store(self, element, element.slot + (i if i >= 0 else FAR + i), value)


_PEEKS: dict[str, FieldBase] = {}


def unlocked(obj: Struct, name: str) -> Any:
    """Read a field without its guard, on purpose: never a race, and the answer may be out of date at once."""
    field = type(obj).fields[name]
    return here.port.load(obj, peek_of(field), field.slot)


def read_field(obj: Struct, name: str) -> Any:
    """Read a field by its name, even if it was never set and holds None."""
    field = type(obj).fields[name]
    return here.port.load(obj, field, field.slot)


def assign_field(obj: Struct, name: str, value: object) -> None:
    """Assign a field by its name."""
    field = type(obj).fields[name]
    here.port.store(obj, field, field.slot, value)


def peek_of(field: FieldBase) -> FieldBase:
    """The field, as one access sees it that skips its guard on purpose."""
    peek = _PEEKS.get(field.key)
    if peek is None:
        peek = _PEEKS[field.key] = field.again()
        peek.bind(KIND_NAMES[field.key.partition(".")[0]], field.name, field.slot, field.type)
        peek.peek, peek.indexed = True, field.indexed
    return peek


@lru_cache(1 << 15)
def parse_handle(text: str) -> Any:
    """The handle that a record calls `anon:5#2`; None if the text is not a handle."""
    kind, _, rest = text.partition(":")
    index, _, gen = rest.partition("#")
    if kind not in KIND_NAMES or not index.isdecimal() or not (gen.isdecimal() or gen == "*"):
        return None
    return KIND_NAMES[kind].at(int(index), ANY_GEN if gen == "*" else int(gen))


def lock_name(key: int) -> str:
    """A lock's name from its key, as `anon:5.an_lock`."""
    kind = KINDS[key >> LOCK_SHIFT >> KIND_SHIFT]
    return f"{kind.kind_name}:{key >> LOCK_SHIFT & INDEX_MASK}.{_lock(key).name}"


def lock_sleeps(key: int) -> bool:
    """Does a context that waits for this lock sleep (lockmgr) rather than spin?"""
    return _lock(key).sleepable


def _lock(key: int) -> Lock:
    locks = KINDS[key >> LOCK_SHIFT >> KIND_SHIFT].numbered_locks
    return locks[key & ((1 << LOCK_SHIFT) - 1)]


def channel_name(chan: int) -> str:
    """A sleep channel's name from its address, as `page:3` or `uvmexp:0.free`."""
    kind = KINDS[chan >> 8 >> KIND_SHIFT]
    base = f"{kind.kind_name}:{chan >> 8 & INDEX_MASK}"
    names = [name for name, field in kind.fields.items() if field.slot == chan & 0xFF]
    return f"{base}.{names[0]}" if names else base


class Member:
    """A field by its name, which is looked up again only if the struct is of another kind than the last one."""

    __slots__ = ("field", "kind", "name")

    def __init__(self, name: str):
        self.name = name
        self.kind: type[Struct] | None = None
        self.field = FieldBase("const")

    def _find(self, kind: type[Struct]) -> None:
        self.field, self.kind = kind.fields[self.name], kind

    def load(self, obj: Struct) -> Any:
        if type(obj) is not self.kind:
            self._find(type(obj))
        return here.port.load(obj, self.field, self.field.slot)

    def store(self, obj: Struct, value: object) -> None:
        if type(obj) is not self.kind:
            self._find(type(obj))
        here.port.store(obj, self.field, self.field.slot, value)


class TailQueue:
    """Queue macros of <sys/queue.h> over guarded fields of a head and of its elements.

    Args:
        first, last: names of the head's fields.
        next, prev: names of the elements' link fields.
    """

    __slots__ = ("first_", "last_", "next_", "prev_")

    def __init__(self, first: str, last: str, next: str, prev: str):
        self.first_, self.last_ = Member(first), Member(last)
        self.next_, self.prev_ = Member(next), Member(prev)

    def first(self, head: Struct) -> Any:
        """TAILQ_FIRST"""
        return self.first_.load(head)

    def next(self, elm: Struct) -> Any:
        """TAILQ_NEXT"""
        return self.next_.load(elm)

    def insert_tail(self, head: Struct, elm: Struct) -> None:
        """TAILQ_INSERT_TAIL"""
        last = self.last_.load(head)
        self.next_.store(elm, None)
        self.prev_.store(elm, last)
        self.last_.store(head, elm)
        if last is None:
            self.first_.store(head, elm)
        else:
            self.next_.store(last, elm)

    def remove(self, head: Struct, elm: Struct) -> None:
        """TAILQ_REMOVE"""
        before, after = self.prev_.load(elm), self.next_.load(elm)
        if after is None:
            self.last_.store(head, before)
        else:
            self.prev_.store(after, before)
        if before is None:
            self.first_.store(head, after)
        else:
            self.next_.store(before, after)
