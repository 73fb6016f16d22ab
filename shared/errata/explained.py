"""Words with a meaning: the base of the enumerations in which the catalogue says what it knows of a defect."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class Explained(StrEnum):
    """A word and, as `meaning`, a sentence for a reader who has not met it before."""

    meaning: str

    def __new__(cls, value: str, meaning: str) -> Self:
        """A member that is its word, with its meaning beside it."""
        member = str.__new__(cls, value)
        member._value_, member.meaning = value, meaning
        return member
