"""Code that sees more than one node: engines, exploration, replay, postmortem, the command."""

import shared  # noqa: F401 - it says in which form these modules come
