"""Asks a Ray cluster whether it lets us in, before Ray itself is asked to connect.

Ray would try for up to a minute, write each attempt to stderr, and end the process if it has no token although it wants
to use one. Therefore a process of its own asks, and its answer is one line:

    python -m cluster.live.knock HOST:PORT|auto
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys

from cluster.live.actors import Stranger, members
from shared.errors import Infrastructure, UserMistake

#: seconds that the process has, of which most are for the import of Ray on a busy computer
ANSWER_S = 20.0


def knock(address: str, command: str) -> None:
    """Does the cluster let us in, and is this computer of it?

    Args:
        address: HOST:PORT, or auto.
        command: what the user runs, for advice.

    Raises: UserMistake - no token, a wrong one, or no node of the cluster; Infrastructure - no answer.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__, address], capture_output=True, text=True, timeout=ANSWER_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise Infrastructure(
            f"no Ray answers at {address}; --address is that of its GCS, as `ray start` prints it"
        ) from None
    try:
        kind, what = json.loads(done.stdout)
    except ValueError:
        reason = next((line for line in done.stderr.splitlines() if line.strip()), f"exit code {done.returncode}")
        raise Infrastructure(f"Ray cannot be reached at {address}: {reason}") from None
    if kind == "stranger":
        raise UserMistake(what, field="--address")
    if kind == "error":
        raise Infrastructure(f"Ray cannot be reached at {address}: {what}")
    if not any(_is_ours(node) for node in what):
        head = address.rpartition(":")[0]
        raise UserMistake(
            f"this computer is not a node of the Ray cluster at {address}; submit the command to it:"
            f" ray job submit --address http://{head}:8265 -- {command} ... --address auto",
            field="--address",
        )


def _is_ours(ip: str) -> bool:
    """Is this an address of this computer?"""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET) as sock:
        sock.bind((ip, 0))
        return True
    return False


def main(address: str) -> None:
    """Print (kind, addresses or message) as JSON."""
    try:
        answer: tuple[str, object] = "nodes", members(address)
    except Stranger as wrong:
        answer = "stranger", str(wrong)
    except Infrastructure as wrong:
        answer = "error", str(wrong)
    print(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1])
