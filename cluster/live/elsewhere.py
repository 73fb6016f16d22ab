"""Which journals of a run are on other computers: the file ELSEWHERE in the folder of the run, as it is read.

A folder may come from anybody, so what the file says is checked.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from shared.errors import UserMistake
from shared.text import clean

#: node -> where its journal is, if it is on another computer
ELSEWHERE = "elsewhere.json"
#: what the names of the folders of attempts begin with, after which an actor died, in the folder of their run
DIED = "died-"
MAX_BYTES, MAX_PLACES, MAX_TEXT = 1 << 20, 256, 4096
_NODE = re.compile(r"[a-z][a-z_]{0,30}[0-9]{0,4}")


class Place(NamedTuple):
    """Where a journal is.

    Attributes:
        host: name of the computer.
        node: id of its Ray node.
        path: of the file there.
    """

    host: str
    node: str
    path: str


def places(folder: Path) -> dict[str, Place]:
    """Node -> where its journal is, of all that are on other computers.

    Raises: UserMistake - the file is damaged.
    """
    path = folder / ELSEWHERE
    try:
        with open(path, "rb") as stream:
            document = json.loads(stream.read(MAX_BYTES))
        if not isinstance(document, dict) or len(document) > MAX_PLACES:
            raise ValueError("expected an object of nodes")
        for node, place in document.items():
            right = isinstance(place, dict) and set(place) == set(Place._fields)
            if not right or not all(isinstance(word, str) and len(word) <= MAX_TEXT for word in place.values()):
                raise ValueError(f"expected {', '.join(Place._fields)} of {clean(node, 40)}")
            if not _NODE.fullmatch(node):
                raise ValueError(f"{clean(node, 40)} is not the name of a node")
        return {node: Place(**place) for node, place in document.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as wrong:
        raise UserMistake(f"cannot be read ({clean(wrong, 120)})", file=clean(path, 200)) from None


def stays(node: str, place: Place) -> str:
    """Where the journal of a node still is, in words."""
    return f"the journal of {node} stays on {place.host}: {place.path}"


def attempts(folder: str) -> list[str]:
    """The folders in which journals of a run may be: its own, and those of the attempts before the last death."""
    return [folder, *map(str, sorted(Path(folder).glob(f"{DIED}[1-9]*")))]


def left(run: str, pasteable: Callable[[str], str] = str) -> list[str]:
    """Which journals of a run are still on other computers, and how to fetch them, in words.

    Args:
        pasteable: makes of a command line one that can be pasted.
    """
    lines = []
    for folder in attempts(run):
        try:
            there = places(Path(folder))
        except UserMistake as wrong:
            lines.append(str(wrong))
            continue
        lines += [stays(node, place) for node, place in there.items()]
        if there:
            lines.append(f"to fetch what stays there: {pasteable(shlex.join(['uvmp', 'collect', folder]))}")
    return lines
