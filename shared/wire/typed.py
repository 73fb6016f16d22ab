"""Plain data, as msgpack and JSON have it, as values of declared types again.

A NamedTuple travels as an array of its fields, a dataclass as a map of them, and a tuple or frozenset as an array. A
reader follows the annotations of such a type. It accepts a number or a text only where its type is declared.

Left out: the values of a TypedDict, which is a map, are not looked at. Messages between nodes have readers of their own
in messages.py: the live machine's speed needs them, and mypyc keeps no annotations of a NamedTuple.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import is_dataclass
from functools import cache
from types import UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints, is_typeddict

T = TypeVar("T")
Reader = Callable[[Any], Any]
#: readers of types whose annotations do not say everything
OWN: dict[type, Reader] = {}


def read(kind: type[T], data: object) -> T:
    """The value of this type that has become `data` on its way.

    Raises: TypeError, ValueError, LookupError - the data are not of this type.
    """
    value: T = reader(cast("Any", kind))(data)
    return value


@cache
def reader(kind: Any) -> Reader:
    """What reads values of a type; see read()."""
    origin, parts = get_origin(kind), get_args(kind)
    if kind is object or kind is Any:
        return lambda data: data
    if kind in OWN:
        return OWN[kind]
    if origin in (Union, UnionType):
        return _one_of([reader(part) for part in parts])
    if origin in (list, tuple, frozenset, Sequence) and (origin is not tuple or parts[-1] is ...):
        make, element = list if origin is Sequence else origin, reader(parts[0])
        return lambda data: make(map(element, _array(data)))
    if origin is tuple:
        readers = [reader(part) for part in parts]
        return lambda data: tuple(_each(readers, data))
    if origin in (dict, Mapping):
        key, value = map(reader, parts)
        return lambda data: {key(name): value(element) for name, element in _map(data).items()}
    if is_dataclass(kind) or hasattr(kind, "_fields"):
        fields = {name: reader(hint) for name, hint in get_type_hints(kind).items()}
        return _fields(kind, fields, is_array=hasattr(kind, "_fields"))
    return _map if is_typeddict(kind) else _instance(kind)


def _fields(make: Callable[..., Any], fields: Mapping[str, Reader], is_array: bool) -> Reader:
    readers = list(fields.values())
    if is_array:
        return lambda data: make(*_each(readers, data))
    return lambda data: make(*(value(_map(data)[name]) for name, value in fields.items()))


def _one_of(readers: Sequence[Reader]) -> Reader:
    def first(data: object) -> object:
        for reading in readers:
            with suppress(TypeError):
                return reading(data)
        raise TypeError(f"{type(data).__name__} is none of the types of a union")

    return first


def _instance(kind: type) -> Reader:
    exact = (float, int) if kind is float else (kind,)

    def check(data: object) -> object:
        if type(data) not in exact:
            raise TypeError(f"{type(data).__name__} where {kind.__name__} was expected")
        return data

    return check


def _each(readers: Sequence[Reader], data: object) -> list[Any]:
    return [element(value) for element, value in zip(readers, _array(data), strict=True)]


def _array(data: object) -> Sequence[Any]:
    if not isinstance(data, (list, tuple)):
        raise TypeError(f"{type(data).__name__} where an array was expected")
    return data


def _map(data: object) -> Mapping[Any, Any]:
    if not isinstance(data, dict):
        raise TypeError(f"{type(data).__name__} where a map was expected")
    return data
