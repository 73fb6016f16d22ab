"""The parts of the machine, each a plain class that knows nothing of how it is run."""

import shared  # noqa: F401 - it says in which form these modules come
