"""What every node is: a state machine that admits operations one by one.

A node never blocks, never reads a clock and never draws a random number. A request it
cannot grant it answers with WAIT; what a request causes elsewhere it leaves in
`out`, for the engine to deliver.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any, ClassVar

from shared.patch import SEAMS, Function
from shared.wire.messages import OPERATIONS, Effect
from shared.wire.tables import tables


def _seam(node: type[Node], name: str) -> Callable[[Function], Function]:
    """Replaces a method of a node."""

    def put(other: Function) -> Function:
        before: Function = vars(node)[name]
        setattr(node, name, other)
        return before

    return put


#: arguments of an operation as one value: its NamedTuple
Arguments = Callable[..., tuple[object, ...]]


class Node:
    """Base of the nodes.

    Args:
        name: `memory`, or `memory1` for a shard.

    Attributes:
        arguments: kind of operation -> the NamedTuple of its arguments, for a method that takes them as one value.
        out: what the last operation causes elsewhere.
        admitted: operations since the last image, if the engine counts them.
    """

    kind: ClassVar[str] = ""
    arguments: ClassVar[Mapping[str, Arguments]] = {}

    def __init__(self, name: str):
        self.name = name
        self.out: list[Effect] = []
        self.errata: frozenset[str] = frozenset()
        self.sites: dict[str, int] = {}
        self.admitted = 0

    def __init_subclass__(cls) -> None:
        """Check a kind of node against OPERATIONS: it has a method for each of its operations, with these arguments,
        and no other. A patch can replace each of them (shared/patch.py).

        Raises: AssertionError - a method is missing, is not declared, or has other arguments.
        """
        wanted = {code: op for code, op in OPERATIONS.items() if op.node == cls.kind and not op.local}
        methods = {name.removeprefix("op_") for name in dir(cls) if name.startswith("op_")}
        assert methods == wanted.keys(), f"{cls.__name__} and OPERATIONS differ: {sorted(methods ^ wanted.keys())}"
        for code, op in wanted.items():
            together = cls.arguments.get(code)
            names: Sequence[str] = [*signature(together or getattr(cls, "op_" + code)).parameters]
            names = names if together else names[3:]  # self, ctx, target
            same = [name if declared == "-" else declared.rstrip("?") for name, declared in zip(names, op.args)]
            assert len(names) == len(op.args) and names == same, f"{cls.__name__}.op_{code}: {names}, not {op.args}"
        SEAMS.update({f"{cls.__name__}.{name}": _seam(cls, name) for name in vars(cls) if name.startswith("op_")})

    def admit(self, ctx: str, code: str, target: int, args: tuple[object, ...]) -> Any:
        """Perform one operation and return its result, or WAIT.

        Raises: KernelFinding - the operation shows the simulated kernel to be wrong.
        """
        return self.perform(getattr(self, "op_" + code), ctx, code, target, args)

    def perform(self, method: Callable[..., Any], ctx: str, code: str, target: int, args: tuple[object, ...]) -> Any:
        """`admit`, with the method at hand; written out, because compiled code is slow at `*args`."""
        count = len(args)
        if count == 0:
            return method(ctx, target)
        if count == 1:
            return method(ctx, target, args[0])
        if count == 2:
            return method(ctx, target, args[0], args[1])
        together = self.arguments.get(code)
        if together is not None:
            return method(ctx, target, together(*args))
        return method(ctx, target, args[0], args[1], args[2]) if count == 3 else method(ctx, target, *args)

    def erratum(self, name: str) -> bool:
        """Is this defect of the hardware, or of what the node does for the kernel, switched on? As in the port.

        Counts that its site was reached, either way; an engine puts nodes' sites and processors' together.
        """
        self.sites[name] = self.sites.get(name, 0) + 1
        return name in self.errata

    def tables(self) -> Mapping[str, str]:
        """Which tables of constants and layouts this node was built with (shared/wire/tables.py)."""
        return tables()

    def image(self) -> object:
        """The node's state as plain data."""
        return None

    def load_image(self, image: Any) -> None:
        """Start from a state that `image` gave."""
        self.out, self.admitted = [], 0

    def keep(self) -> None:
        """Remember the present state, which an image has just given, for `restore`."""

    def restore(self, image: Any) -> None:
        """Start again from that state; `image` is the image that gave it. The engine has counted what was admitted."""
        if self.admitted:
            self.load_image(image)
