"""Starts and stops Ray, and the actors of a machine on it.

The command uses only the Ray that the user chose: a private local Ray, or the
cluster at a given address; it never joins another cluster. A private Ray has
token authentication, whatever RAY_AUTH_MODE says, and listens on the loopback
address alone (nodes/host/README.md). Usage reports are off. No process and no
file of Ray is left behind, also after an error or Ctrl-C.

Three defaults of Ray are changed while it starts. Ray would exit at once on
SIGTERM; the command keeps its own handler. Ray's processes would be in our
process group, where a signal to the group (Ctrl-C, timeout(1)) ends them too
early; they get their own group. If we are killed, they still end. Ray would
replace a loopback address by another address of this computer: a private Ray would
then listen on all network interfaces, and a Ray that listens on loopback alone
would be sought, without end, where it is not.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from time import sleep
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

from cluster import signals
from cluster.live.hosts import Hosts, RayHost, hosts_of, places, still_there
from cluster.live.listens import listens
from cluster.live.watch import (
    GCS,
    GCS_FIRST,
    RAYLET,
    Died,
    Process,
    Watch,
    end_group,
    far_gcs,
    has_ended,
    process_of,
    remove,
)
from nodes.host.here import Here, sources, unlike
from nodes.host.private import temporary
from nodes.host.transport import DEFAULT, Kind
from shared.errors import Infrastructure
from shared.scenario.machine import MachineConfig
from shared.wire.codec import CHUNK, decode

if TYPE_CHECKING:
    from nodes.host.ray import Handle
    from nodes.host.sockets import Address

OBJECT_STORE_BYTES = 80 << 20
LIMIT_S = 60.0
#: for an actor to start, on a computer that has many to start
START_S = 5.0
#: for an actor to end a run
STOP_S = 10.0
RETRY_AFTER_S = 5.0
#: for a host to answer what a dead actor has left there
REMAINS_S = 20.0
#: a socket's path has 107 bytes at most; Ray adds 64 to the name of its folder, or some more
MAX_FOLDER = 40
#: Ray lets everybody into its folder, which has its sockets and logs; so that folder is in one of ours
INSIDE = "/r"
LOOPBACK = "127.0.0.1"
#: where Ray looks for its token
TOKEN_FROM = "RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token"
#: tracebacks of actors; that there are more processes than cores; that an actor, a host or its raylet has died: we tell
NOISE = re.compile(
    "Traceback|worker processes have been started|A worker died or was killed|has been marked dead|Raylet is terminated"
)
#: in the text of Ray's about an actor that has died
_BECAUSE = re.compile(r"^The actor (?:is dead|died) because (its [^.]*)", re.MULTILINE)
_PID = re.compile(r"^\s*pid: ([1-9]\d*)$", re.MULTILINE)
#: the state of a node of Ray's
ALIVE = 0


@contextlib.contextmanager
def ray_session(
    address: str | None = None, notify: Callable[[str], None] = lambda text: None, watch: Watch | None = None
) -> Iterator[ModuleType]:
    """The ray module, connected: to a private local Ray, or to the cluster at `address`.

    Ray's own lines go to stderr, so that stdout stays ours. A private Ray that does not start, as on a machine that is
    busy with starting another, is started once more.

    Args:
        notify: called with what takes long.
        watch: who watches a private Ray from outside.

    Raises: Infrastructure - it cannot be reached or started, or one of its processes has died.
    """
    private = Private(watch or Watch())
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    if address is None:
        os.environ["RAY_AUTH_MODE"] = "token"
        if not os.environ.get("RAY_AUTH_TOKEN_PATH"):
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import ray

    with contextlib.redirect_stdout(sys.stderr):
        mine = not ray.is_initialized()
        if mine:
            options: dict[str, object] = {"log_to_driver": False, "logging_level": "ERROR", "namespace": "uvmp"}
            if address is None:
                options |= {
                    "address": "local", "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES,
                    "num_cpus": os.cpu_count() or 2,
                }  # fmt: skip
            else:
                options["address"] = address
        with contextlib.ExitStack() as stack:
            if mine:
                stack.enter_context(_replaced(ray._private.worker, "print_to_stdstream", _without_noise))
                stack.callback(private.end)
                stack.callback(ray.shutdown)
                stack.callback(private.watch.tell, "over")
                try:
                    _start(ray, options, stack, private)
                except Infrastructure as error:
                    if address is not None:
                        raise
                    notify(f"{error}; trying again in {RETRY_AFTER_S:.0f} s")
                    private.watch.tell("over")
                    ray.shutdown()
                    private.end()
                    sleep(RETRY_AFTER_S)
                    _start(ray, options, stack, private)
                if address is not None:
                    private.join(ray)
                private.watch.tell("up")
            try:
                yield ray
            except (KeyboardInterrupt, Infrastructure):
                private.refuse_dead()
                raise


class Private:
    """The processes of a private Ray; of a cluster's Ray, those of this computer that the driver needs.

    Attributes:
        watch: who watches them from outside.
        processes: of the private Ray, with their names.
        joined: of the cluster's.
        far: GCS of the cluster, if it is on another host.
    """

    #: what their programs are for
    NAMES: ClassVar = {"gcs_server": GCS, "raylet": RAYLET}

    def __init__(self, watch: Watch):
        self.watch = watch
        self.processes: list[tuple[str, subprocess.Popen[bytes]]] = []
        self.joined: list[Process] = []
        self.far: Process | None = None

    def join(self, ray: ModuleType) -> None:
        """The driver has connected to a cluster."""
        node = ray._private.worker._global_node
        self.watch.tell("at", node.gcs_address)
        if sys.platform != "linux":
            return
        host, _, port = node.gcs_address.rpartition(":")
        for program, option, first in (
            ("raylet", f"--raylet_socket_name={node.raylet_socket_name}",
             f"`ray start --address {node.gcs_address}` starts it again"),
            ("gcs_server", f"--gcs_server_port={port}", GCS_FIRST),
        ):  # fmt: skip
            pid = process_of(program, option) if program == "raylet" or host == node.node_ip_address else None
            if pid is not None:
                self.joined.append(Process(self.NAMES[program], pid, first))
                self.watch.tell("joined", *self.joined[-1][:3])
            elif program == "gcs_server":
                self.far = far_gcs(node.gcs_address)
                self.watch.tell("far", node.gcs_address)

    def start(
        self, popen: Callable[..., subprocess.Popen[bytes]], command: list[str], **options: object
    ) -> subprocess.Popen[bytes]:
        """Start a process as Ray does, but in a group of its own."""
        process = popen(command, process_group=0, **options)
        name = self.NAMES.get(os.path.basename(command[0]))
        if name is not None:
            self.processes.append((name, process))
            self.watch.tell("born", name, process.pid)
        return process

    def end(self) -> None:
        """End what Ray has left of them, and of the processes that they have started."""
        for _, process in self.processes:
            end_group(process.pid)
        self.processes = []

    def refuse_dead(self) -> None:
        """Raises: Infrastructure - a process has died."""
        dead = [Process(name, process.pid) for name, process in self.processes if process.poll() is not None]
        dead += [process for process in self.joined if has_ended(process.pid)]
        if self.far is not None and listens(self.far.address) is False:
            dead.append(self.far)
        if dead:
            raise Infrastructure(dead[0].died(self.watch.logs)) from None


def _start(ray: ModuleType, options: dict[str, object], stack: contextlib.ExitStack, private: Private) -> None:
    """ray.init; `stack` gets what removes its folder afterwards."""
    local = options["address"] == "local"
    folder = _folder() if local else None
    if local:
        options = {**options, "_node_ip_address": LOOPBACK}
    if folder is not None:
        options = {**options, "_temp_dir": folder + INSIDE}
        private.watch.tell("made", folder)
        end = stack.pop_all()  # Ray's processes end before their folder goes
        stack.callback(remove, folder)
        stack.push(end)
    try:
        with _tamed(ray, private), _for_user_alone() if local else contextlib.nullcontext():
            ray.init(**options)
    except Exception as error:
        where = "on this machine" if local else f"at {options['address']}"
        raise Infrastructure(f"Ray cannot be reached or started {where}: {_first_line(error)}") from None


def _folder() -> str | None:
    """A new folder of ours alone, with a short name, for that of a private Ray; None: there is no place for it."""
    for place in (tempfile.gettempdir(), "/tmp"):
        if len(os.fsencode(place)) <= MAX_FOLDER - len("/ray-XXXXXXXX" + INSIDE):
            with contextlib.suppress(OSError):
                return str(temporary("ray-", place))
    return None


@contextlib.contextmanager
def _tamed(ray: ModuleType, private: Private) -> Iterator[None]:
    """Ray starts without a handler of its own for SIGTERM, its processes in a group of their own and known to us; it
    takes the loopback address for what it is."""
    services, utils = ray._private.services, ray._private.utils
    with contextlib.ExitStack() as stack:
        stack.enter_context(signals.restored())
        stack.enter_context(_replaced(utils, "set_sigterm_handler", lambda was: lambda handler: None))
        stack.enter_context(_replaced(services, "ConsolePopen", lambda was: functools.partial(private.start, was)))
        stack.enter_context(_replaced(services, "resolve_ip_for_localhost", lambda was: lambda host: host))
        yield


@contextlib.contextmanager
def _for_user_alone() -> Iterator[None]:
    """Files of Ray's processes, and of the processes that these start, are for their user alone, with any umask.

    Each of these processes gives everybody all rights to the folders in which they are, which is why the folder around
    these is ours alone.
    """
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@contextlib.contextmanager
def _replaced(module: ModuleType, name: str, change: Callable[[Any], Any]) -> Iterator[None]:
    """A name of Ray's means something else for a while, if this version of Ray has it."""
    was = getattr(module, name, None)
    if was is None:
        yield
        return
    setattr(module, name, change(was))
    try:
        yield
    finally:
        setattr(module, name, was)


def _without_noise(say: Callable[..., None]) -> Callable[..., None]:
    """What Ray tells the driver of its nodes, without what we say in our own words or have meant to do."""

    def quiet(data: dict[str, list[str]], **options: object) -> None:
        if not NOISE.search("".join(data["lines"])):
            say(data, **options)

    return quiet


class Stranger(Exception):
    """A cluster does not let us in: we have no token, or a wrong one."""


def members(address: str) -> list[str]:
    """The addresses of all nodes of a cluster that are alive; `address` is HOST:PORT, or auto.

    May end the process, as Ray does; see knock.py.

    Raises: Stranger; Infrastructure - no answer.
    """
    import ray
    from ray._private.authentication import authentication_token_setup as tokens

    raylet, services = ray._raylet, ray._private.services
    try:
        where = address
        if address == "auto":
            tokens.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
            where = services.canonicalize_bootstrap_address_or_die(address)
        wanted = raylet.get_authentication_mode() == raylet.AuthenticationMode.TOKEN
        if wanted and not raylet.AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True):
            raise Stranger(f"RAY_AUTH_MODE is token, but there is no token: set {TOKEN_FROM}")
        nodes = raylet.GcsClient(address=where).get_all_node_info(timeout=LIMIT_S).values()
    except ray.exceptions.AuthenticationError:
        if wanted:
            raise Stranger(f"the Ray cluster at {address} refuses our token ({TOKEN_FROM})") from None
        raise Stranger(f"the Ray cluster at {address} wants a token: RAY_AUTH_MODE=token, and {TOKEN_FROM}") from None
    except (ConnectionError, OSError, RuntimeError, ray.exceptions.RayError) as error:
        raise Infrastructure(_first_line(error)) from None
    return [node.node_manager_address for node in nodes if node.state == ALIVE]


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


class Actors:
    """The actors of one machine, wired; reused from run to run.

    Args:
        place: node -> the host where its actor must be; the others are placed as hosts.py says.
        transport: how the actors reach each other.
        options: node -> further options of Ray's for its actor.

    Attributes:
        here: actor -> its process.
        hosts: actor -> the host where it was started.
        killed: actors that have failed to do as they were told; they may still answer for a moment.
    """

    def __init__(
        self,
        ray: ModuleType,
        config: MachineConfig,
        place: Mapping[str, str] | None = None,
        transport: Kind = DEFAULT,
        options: Mapping[str, dict[str, object]] | None = None,
    ):
        self.ray, self.place, self.transport, self.options = ray, place or {}, transport, options or {}
        self.groups = [list(group) for group in config.actors]
        self.actor_of = {node: group[0] for group in self.groups for node in group}
        self.handles: dict[str, Handle] = {}
        self.here: dict[str, Here] = {}
        self.hosts: dict[str, RayHost] = {}
        self.killed = set[str]()
        self.start(self.actor_of.values())

    def start(self, names: Collection[str]) -> None:
        """Start these actors, whether or not they have been there before, and tell all where the others are.

        Raises: Infrastructure - an actor has died, or has other source.
        """
        from nodes.host.ray import NodeActor, at

        remote = self.ray.remote(NodeActor)
        alive = hosts_of(self.ray)
        hosts = places(self.groups, alive, still_there(self.place, alive) if self.here else self.place)
        for group in [group for group in self.groups if group[0] in names]:
            given: dict[str, object] = {
                "num_cpus": 0, "max_concurrency": 1, "max_restarts": 0, "max_task_retries": 0,
                "enable_task_events": False, "scheduling_strategy": at(hosts[group[0]].id),
            }  # fmt: skip
            given |= self.options.get(group[0], {})
            self.hosts[group[0]] = hosts[group[0]]
            self.here.pop(group[0], None)
            self.handles[group[0]] = remote.options(**given).remote(group[0], group)
        self.killed.difference_update(names)
        try:
            self.here = dict(
                zip(self.handles, self.call("here", limit_s=LIMIT_S + START_S * len(self.groups)), strict=True)
            )
        except Infrastructure as error:
            self.kill()
            if len(set(hosts.values())) > 1:
                raise Infrastructure(f"{str(error).rstrip('.')}; `uvmp doctor --address` compares the hosts") from None
            raise
        self._refuse_other_source()
        self.call("wire", self.handles, self.actor_of, {name: self.label(name) for name in self.handles})
        if self.transport != "ray":
            self._connect(leases=self.transport == "leases")

    @property
    def pids(self) -> dict[str, int]:
        """Actor -> its process."""
        return {name: here.pid for name, here in self.here.items()}

    def _refuse_other_source(self) -> None:
        """Raises: Infrastructure - an actor runs other source than ours."""
        for name, here in self.here.items():
            files = unlike(here.source, sources())
            if files:
                self.kill()
                raise Infrastructure(
                    f"actor {name} on {here.host} runs different source ({files});"
                    " install the same uvmp on every host; `uvmp doctor --address` compares them"
                )

    def _connect(self, leases: bool) -> None:
        """Tell all actors where the sockets of the others are."""
        addresses: list[Address] = self.call("listen", secrets.token_bytes(32), leases)
        if len({address.place for address in addresses}) > 1:
            addresses = self.call("listen_tcp")
        self.call("connect", dict(zip(self.handles, addresses, strict=True)))

    def call(self, method: str, *args: object, limit_s: float = LIMIT_S) -> list[Any]:
        """Call one method of every actor and return the results in actor order."""
        refs = {name: getattr(handle, method).remote(*args) for name, handle in self.handles.items()}
        return self.gather(refs, limit_s)

    def gather(self, refs: Mapping[str, object], limit_s: float = LIMIT_S) -> list[Any]:
        """Results of calls, each of an actor, in their order.

        Raises: Died - an actor has died; Infrastructure - it is silent, or has failed.
        """
        try:
            replies: list[Any] = self.ray.get(list(refs.values()), timeout=limit_s)
            return replies
        except self.ray.exceptions.GetTimeoutError:
            _, late = self.ray.wait(list(refs.values()), num_returns=len(refs), timeout=0)
            silent = [self.label(name) for name, ref in refs.items() if ref in late]
            raise Infrastructure(f"{' and '.join(silent) or 'an actor'} has not answered for {limit_s:.0f} s") from None
        except self.ray.exceptions.RayActorError as error:
            because = _BECAUSE.search(str(error))
            why = because[1] if because else _first_line(error)
            if isinstance(error, self.ray.exceptions.ActorUnavailableError):
                why = "Ray cannot reach it"
            raise Died(f"{self._name(error)} died: {why}") from None
        except self.ray.exceptions.RayTaskError as error:
            what = str(error).strip().splitlines()[-1]
            raise Infrastructure(f"{self._failed(refs)} failed: {what}") from None

    def chunks(self, node: str, limit_s: float = LIMIT_S, offset: int = 0) -> Iterator[bytes]:
        """The journal file of a node as it is now, from a byte on, in pieces."""
        name = self.actor_of[node]
        handle = self.handles[name]
        while piece := decode(CHUNK, self.gather({name: handle.chunk.remote(node, offset)}, limit_s)[0]):
            yield piece
            offset += len(piece)

    def _name(self, error: BaseException) -> str:
        """The actor that an error of Ray's is about, as `label` has it."""
        ident = getattr(error, "actor_id", None)
        name = next((name for name, handle in self.handles.items() if handle._actor_id.hex() == str(ident)), None)
        if name is None:
            return "an actor"
        pid = _PID.search(str(error)) if name not in self.here else None
        return self.label(name, f" (pid {pid[1]})" if pid is not None else "")

    def _failed(self, refs: Mapping[str, object]) -> str:
        """The first actor whose call has failed, as `label` has it."""
        for name, ref in refs.items():
            try:
                self.ray.get(ref, timeout=0)
            except self.ray.exceptions.RayTaskError:
                return self.label(name)
            except self.ray.exceptions.RayError:
                continue
        return "an actor"

    def label(self, name: str, process: str = "") -> str:
        """What messages call an actor: its nodes, its process, its host.

        Args:
            process: its process in words, if the actor has not told it.
        """
        here = self.here.get(name)
        group = next(group for group in self.groups if group[0] == name)
        where = f"{process} on {self.hosts[name].name}" if here is None else f" (pid {here.pid}) on {here.host}"
        return f"the actor of {', '.join(group)}{where}"

    def stop(self, *methods: str, spare: Collection[str] = ()) -> None:
        """Call these methods of every actor, one after the other; an actor that fails or is silent is killed.

        Args:
            spare: actors that are not called.
        """
        alive = {name: handle for name, handle in self.handles.items() if name not in spare}
        for method in methods:
            refs = {name: getattr(handle, method).remote() for name, handle in alive.items()}
            with contextlib.suppress(Exception):
                self.ray.wait(list(refs.values()), num_returns=len(refs), timeout=STOP_S)
            for name, ref in refs.items():
                try:
                    self.ray.get(ref, timeout=0)
                except Exception:
                    self.killed.add(name)
                    with contextlib.suppress(Exception):
                        self.ray.kill(alive.pop(name))

    def cluster(self) -> Hosts:
        """The hosts, to be asked for what dead actors have left there.

        Raises: Infrastructure - Ray's control store does not answer, and Ray itself would wait for it for a minute.
        """
        if not listens(self.ray.get_runtime_context().gcs_address):
            raise Infrastructure("Ray's control store, GCS, does not answer")
        return Hosts(self.ray, REMAINS_S)

    def dead(self) -> list[str]:
        """The actors that have died; a silent actor is killed, and belongs to them."""
        dead = []
        for name, handle in self.handles.items():
            with contextlib.suppress(Infrastructure):
                if name not in self.killed:
                    self.gather({name: handle.here.remote()}, STOP_S)
                    continue
            self.ray.kill(handle)
            dead.append(name)
        return dead

    def kill(self) -> None:
        """End every actor process."""
        for handle in self.handles.values():
            with contextlib.suppress(Exception):
                self.ray.kill(handle)
