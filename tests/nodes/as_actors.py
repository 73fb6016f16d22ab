"""Hosts in this process that a LiveMachine calls as if they were Ray's actors (cluster/live/actors.py)."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from nodes.host.here import Here, here
from nodes.host.host import Host
from shared.errors import Infrastructure
from shared.scenario.machine import MachineConfig
from shared.wire.codec import CHUNK, decode


class Transport:
    """Calls of the other hosts' methods."""

    def __init__(self, actors: ActorsInThreads):
        self.actors, self.host_of = actors, actors.actor_of

    def ask(self, node: str, frames: bytes) -> bytes:
        return self.actors.hosts[self.host_of[node]].admit(frames)

    def post(self, processor: str, delivery: bytes) -> None:
        self.actors.hosts[self.host_of[processor]].deliver(delivery)

    def failures(self) -> list[str]:
        return []

    def begin(self, run: str) -> None:
        pass


class Handle:
    """A host; each of its methods has `remote`, which is a call that is performed at once."""

    def __init__(self, host: Host, killed: Collection[str]):
        self.host, self.killed = host, killed

    def __getattr__(self, name: str) -> Any:
        class Method:
            @staticmethod
            def remote(*args: object) -> object:
                if self.host.name in self.killed:
                    raise Infrastructure(f"the actor of {self.host.name} died")
                return getattr(self.host, name)(*args)

        return Method


class ActorsInThreads:
    """The actors of one machine, each a host whose processor has a thread.

    Attributes:
        killed: names of those that do not answer any more.
        calls: names of the methods that were called of all of them.
    """

    def __init__(self, config: MachineConfig):
        self.groups = [list(group) for group in config.actors]
        self.actor_of = {node: group[0] for group in self.groups for node in group}
        self.hosts = {group[0]: Host(group[0], group, Transport(self)) for group in self.groups}
        self.killed: set[str] = set()
        self.calls: list[str] = []
        self.handles = {name: Handle(host, self.killed) for name, host in self.hosts.items()}
        self.here: dict[str, Here] = {name: here("", "") for name in self.hosts}

    @property
    def pids(self) -> dict[str, int]:
        return dict.fromkeys(self.hosts, os.getpid())

    def call(self, method: str, *args: object, limit_s: float = 0.0) -> list[Any]:
        self.calls.append(method)
        return [getattr(handle, method).remote(*args) for handle in self.handles.values()]

    def gather(self, refs: Mapping[str, Any], limit_s: float = 0.0) -> list[Any]:
        return list(refs.values())

    def chunks(self, node: str, limit_s: float = 0.0, offset: int = 0) -> Iterator[bytes]:
        while piece := decode(CHUNK, self.handles[self.actor_of[node]].chunk.remote(node, offset)):
            yield piece
            offset += len(piece)

    def stop(self, *methods: str, spare: Collection[str] = ()) -> None:
        for name in set(self.hosts) - set(spare):
            for method in methods:
                call: Callable[[], object] = getattr(self.hosts[name], method)
                call()

    def kill(self) -> None:
        self.stop("clean")
