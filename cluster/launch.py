"""Starting and stopping Ray, and the actors of a machine on it.

Ray is used only where the user said: a private local one, or the cluster at an
address given; never whichever happens to be running. Its token authentication
is on, its usage reports are off, nothing listens beyond loopback. Nothing of it
is left behind, also after an error or Ctrl-C.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import Iterator
from typing import Any

from shared.errors import Infrastructure
from shared.machine_config import MachineConfig

OBJECT_STORE_BYTES = 80 << 20
LIMIT_S = 60.0


@contextlib.contextmanager
def ray_session(address: str | None = None) -> Iterator[Any]:
    """The ray module, connected: to a private local Ray, or to the cluster at `address`.

    Ray's own lines go to stderr, so that stdout stays ours.

    Raises: Infrastructure - it cannot be reached or started.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    if address is None:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        if os.environ["RAY_AUTH_MODE"] == "token" and not os.environ.get("RAY_AUTH_TOKEN_PATH"):
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import ray

    with contextlib.redirect_stdout(sys.stderr):
        mine = not ray.is_initialized()
        if mine:
            options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "namespace": "uvmp"}
            if address is None:
                options |= {
                    "address": "local", "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES,
                    "num_cpus": os.cpu_count() or 2,
                }  # fmt: skip
            else:
                options["address"] = address
            try:
                ray.init(**options)
            except Exception as error:
                where = f"at {address}" if address else "on this machine"
                raise Infrastructure(
                    f"Ray cannot be reached or started {where}: {str(error).splitlines()[0]}"
                ) from None
        try:
            yield ray
        finally:
            if mine:
                ray.shutdown()


class Actors:
    """The actors of one machine, wired; reused from run to run."""

    def __init__(self, ray: Any, config: MachineConfig, resources: dict[str, dict[str, float]] | None = None):
        from nodes.actor import NodeActor

        self.ray = ray
        remote = ray.remote(NodeActor)
        self.groups = [list(group) for group in config.actors]
        self.actor_of = {node: group[0] for group in self.groups for node in group}
        self.handles: dict[str, Any] = {}
        for group in self.groups:
            options: dict[str, Any] = {
                "num_cpus": 0, "max_concurrency": 1, "max_restarts": 0, "max_task_retries": 0,
                "enable_task_events": False, "scheduling_strategy": "SPREAD",
            }  # fmt: skip
            if resources and group[0] in resources:
                options["resources"] = resources[group[0]]
            self.handles[group[0]] = remote.options(**options).remote(group[0], group)
        self.pids = dict(zip(self.handles, self.call("wire", self.handles, self.actor_of), strict=True))

    def call(self, method: str, *args: Any, limit_s: float = LIMIT_S) -> list[Any]:
        """Call one method of every actor and return the results in actor order."""
        return self.gather([getattr(handle, method).remote(*args) for handle in self.handles.values()], limit_s)

    def gather(self, refs: list[Any], limit_s: float = LIMIT_S) -> list[Any]:
        """Results of calls; an actor that died or is silent is an Infrastructure error."""
        try:
            found: list[Any] = self.ray.get(refs, timeout=limit_s)
            return found
        except self.ray.exceptions.GetTimeoutError:
            raise Infrastructure(f"an actor has not answered for {limit_s:.0f} s") from None
        except self.ray.exceptions.RayActorError as error:
            raise Infrastructure(f"an actor died: {error}") from None
        except self.ray.exceptions.RayTaskError as error:
            raise Infrastructure(f"an actor failed: {str(error).strip().splitlines()[-1]}") from None

    def kill(self) -> None:
        """End every actor process."""
        for handle in self.handles.values():
            with contextlib.suppress(Exception):
                self.ray.kill(handle)
