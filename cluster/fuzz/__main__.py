"""`python -m cluster.fuzz`: run random programs until one fails."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

import click

from cluster.cli.options import asks
from cluster.fuzz.hunt import Order, hunt
from cluster.fuzz.steps import FEATURES
from shared.errata import lookup
from shared.errors import UserMistake


@dataclass(frozen=True)
class Options:
    """What the command is asked for."""

    seed: str
    first: int
    programs: int
    seconds: float
    features: str
    errata: tuple[str, ...]
    out: str


@click.command()
@click.option("--seed", default="", help="Of the programs; default: a fresh one, printed.")
@click.option("--first", default=0, help="Number of the first program of the seed.")
@click.option("--programs", default=1_000_000, show_default=True, help="At most this many.")
@click.option("--seconds", default=60.0, show_default=True, help="No new program after this time.")
@click.option("--features", default="", help=f"Of every program, separated by commas: {', '.join(FEATURES)}.")
@click.option("--errata", multiple=True, help="Switched on, by its id or short name. Repeatable.")
@click.option("--out", default="runs/fuzz", show_default=True, help="Folder for what fails.")
@asks(Options)
def main(asked: Options) -> int:
    """Run random programs under several strategies until one fails; exit code 1 if one does."""
    chosen = frozenset(asked.features.split(",")) if asked.features else None
    for feature in sorted((chosen or frozenset()) - set(FEATURES)):
        raise click.UsageError(f"there is no feature {feature!r}; known: {', '.join(FEATURES)}")
    try:
        errata = tuple(lookup(erratum).id for erratum in asked.errata)
    except UserMistake as mistake:
        raise click.UsageError(mistake.message) from None
    seed = asked.seed or secrets.token_hex(4)
    order = Order(seed, asked.programs, asked.seconds, asked.first, chosen, errata=errata, out=Path(asked.out))
    result = hunt(order)
    click.echo(str(result))
    raise SystemExit(result.failure is not None)


if __name__ == "__main__":
    main()
