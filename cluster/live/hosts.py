"""The hosts of a Ray cluster: what each says of itself, and which actor goes to which of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from time import time
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from shared.errors import Infrastructure, ProjectBug, UserMistake

if TYPE_CHECKING:
    from nodes.host.here import Here

#: seconds in which a host starts a process
START_S = 60.0
T = TypeVar("T")


class RayHost(NamedTuple):
    """A node of a Ray cluster, called host here because nodes are parts of our machine.

    Attributes:
        id: Ray's own.
        name: of its computer.
        cpus: that Ray may use there; 0: it is not meant for work, as the head of many clusters.
    """

    id: str
    name: str
    address: str
    cpus: float

    def __str__(self) -> str:
        return self.name if self.name == self.address else f"{self.name} ({self.address})"

    @property
    def names(self) -> tuple[str, ...]:
        """The names by which --place may call the host."""
        return self.name, self.address, self.id


def hosts_of(ray: ModuleType) -> list[RayHost]:
    """All that are alive: the driver's own first, the others by name."""
    own = ray.get_runtime_context().get_node_id()
    hosts = [
        RayHost(
            node["NodeID"], node["NodeManagerHostname"], node["NodeManagerAddress"], node["Resources"].get("CPU", 0.0)
        )
        for node in ray.nodes()
        if node["Alive"]
    ]
    return sorted(hosts, key=lambda host: (host.id != own, host))


def places(groups: Sequence[Sequence[str]], hosts: Sequence[RayHost], wanted: Mapping[str, str]) -> dict[str, RayHost]:
    """The host of each actor, by its first node: CPUs are spread over the hosts, everything else stays together.

    Args:
        groups: of nodes that share an actor.
        hosts: as `hosts_of` gives them; the servers go to the first host that is meant for work.
        wanted: node -> name, address or id of the host where its actor must be.

    Raises: UserMistake - of what is wanted; Infrastructure - there is no host.
    """
    if not hosts:
        raise Infrastructure("no node of the Ray cluster is alive")
    working = [host for host in hosts if host.cpus > 0] or hosts
    chosen: dict[str, RayHost] = {}
    spread = 0
    for group in groups:
        asked = {node: _called(wanted[node], hosts) for node in group if node in wanted}
        if len(set(asked.values())) > 1:
            nodes = " and ".join(asked)
            raise UserMistake(f"{nodes} share an actor, so they cannot be on different hosts", field="--place")
        host = working[0]
        if any(node.startswith("cpu") for node in group):
            host = working[spread % len(working)]
            spread += 1
        chosen[group[0]] = next(iter(asked.values()), host)
    return chosen


def still_there(wanted: Mapping[str, str], hosts: Sequence[RayHost]) -> dict[str, str]:
    """What is wanted, without the hosts that are lost: an actor that was there is started on another host.

    Args:
        wanted: as `places` takes it.
    """
    names = {name for host in hosts for name in host.names}
    return {node: name for node, name in wanted.items() if name in names}


def _called(name: str, hosts: Sequence[RayHost]) -> RayHost:
    """The host of this name, address or id."""
    called = [host for host in hosts if name in host.names]
    if len(called) == 1:
        return called[0]
    if called:
        ids = ", ".join(host.id for host in called)
        raise UserMistake(f"{name} is the name of {len(called)} Ray nodes; use an id: {ids}", field="--place")
    there = ", ".join(str(host) for host in hosts[:20])
    raise UserMistake(f"there is no host {name}; the cluster has {there}", field="--place")


class Surveyed(NamedTuple):
    """The answer of a host.

    Attributes:
        here: of a process there, or in words why there is none.
        ahead: seconds that its clock is ahead of ours, give or take `unsure`.
    """

    host: RayHost
    here: Here | str
    ahead: float = 0.0
    unsure: float = 0.0


class Silent(Infrastructure):
    """A host does not answer."""


class Hosts:
    """The hosts of a cluster, each of which can be asked to call a function, in a process that Ray starts there.

    Args:
        limit_s: seconds that a host has to answer.

    Attributes:
        hosts: all that are alive.
        silent: those that have not answered; they are not asked again.
    """

    def __init__(self, ray: ModuleType, limit_s: float = START_S):
        self.ray, self.limit_s = ray, limit_s
        self.hosts: Sequence[RayHost] = hosts_of(ray)
        self.silent = set[RayHost]()

    def begin(self, host: RayHost, function: Callable[..., object], *args: object) -> object:
        """Ask, and do not wait for the answer."""
        from nodes.host.ray import at

        call = self.ray.remote(num_cpus=0, max_retries=0)(function)
        return call.options(scheduling_strategy=at(host.id)).remote(*args)

    def answer(self, ref: object) -> Any:
        """The value that the function has returned.

        Raises: Infrastructure - no answer; ProjectBug - what the function has raised.
        """
        try:
            return self.ray.get(ref, timeout=self.limit_s)
        except self.ray.exceptions.GetTimeoutError:
            raise Silent(f"no process answers within {self.limit_s:.0f} s") from None
        except self.ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, ProjectBug):
                raise cause from None
            last = [line.strip() for line in str(error).splitlines() if "Error: " in line and "Runtime" not in line]
            raise Infrastructure(f"uvmp does not run there: {last[-1] if last else type(error).__name__}") from None

    def ask(self, host: RayHost, function: Callable[..., T], *args: object) -> T:
        """Ask, and wait for the answer."""
        try:
            if host in self.silent:
                raise Silent("no process answers")
            answer: T = self.answer(self.begin(host, function, *args))
            return answer
        except Silent:
            self.silent.add(host)
            raise


def survey(cluster: Hosts) -> Iterator[Surveyed]:
    """Ask each host."""
    from nodes.host.ray import this_process

    first = {host: cluster.begin(host, this_process) for host in cluster.hosts}
    for host in cluster.hosts:
        try:
            cluster.answer(first[host])
            asked = time()  # (its process is there by now)
            here = cluster.ask(host, this_process)
            answered = time()
        except ProjectBug as wrong:
            yield Surveyed(host, str(wrong))
        else:
            yield Surveyed(host, here, here.clock - (asked + answered) / 2, (answered - asked) / 2)
