"""`python -m cluster.cli`: the command, where its script is not on the path."""

from __future__ import annotations

from cluster.cli import main

main()
