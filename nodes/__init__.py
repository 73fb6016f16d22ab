"""The parts of the machine; each is a plain class that does not know which engine runs it."""

import shared  # noqa: F401 - it says in which form these modules come
