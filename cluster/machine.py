"""A machine: the nodes of a scenario, connected, with the contexts that run on them.

Both engines build the same machine from the same scenario. The setup runs once,
in `sim`. Its result is the *image*, one part for each node, from which every
execution and every live run starts.
"""

from __future__ import annotations

from typing import cast

from nodes.build import build_node, build_threads, routes
from nodes.cpu import Processor, Thread
from nodes.lock_manager import LockManager
from nodes.memory import Memory
from nodes.mmu import Mmu
from nodes.swap_pager import SwapPager
from shared.detectors.machine_state import MachineState
from shared.port.heap import Heap
from shared.scenario.model import Scenario
from shared.wire.images import Images

#: key of an image under which it says how often booting reached each erratum's site; the others are names of nodes
SITES = "sites"


def sites_of(image: Images) -> dict[str, int]:
    """How often booting reached each erratum's site; a new dictionary."""
    return dict(cast("dict[str, int]", image.get(SITES, {})))  # no node has this name


class Machine:
    """Nodes and contexts of one scenario.

    Attributes:
        nodes: every node by name.
        threads: every context by name, in fixed context order.
        processors: the nodes on which contexts run, in fixed order.
        route: kind of operation -> which node admits it, given its target.
        loaded_by: the engine whose image its nodes have started from.
    """

    def __init__(self, scenario: Scenario, threads: dict[str, Thread] | None = None):
        self.scenario = scenario
        config = scenario.machine
        self.threads = build_threads(scenario) if threads is None else threads
        self.nodes = {name: build_node(name, config, self.threads, scenario.errata) for name in config.nodes}
        nodes = self.nodes.values()
        self.processors = [node for node in nodes if isinstance(node, Processor)]
        self.memories = [node for node in nodes if isinstance(node, Memory)]
        self.lock_managers = [node for node in nodes if isinstance(node, LockManager)]
        self.mmu = next(node for node in nodes if isinstance(node, Mmu))
        self.swap_pager = next(node for node in nodes if isinstance(node, SwapPager))
        self.route = routes(config)
        self.loaded_by: object = None

    def reset(self) -> None:
        """Every context and processor back to the state before its first operation."""
        for processor in self.processors:
            processor.reset()
        for thread in self.threads.values():
            thread.reset()

    def image(self) -> dict[str, object]:
        """State of every node, as plain data."""
        return {name: node.image() for name, node in self.nodes.items()}

    def state(self, heap: Heap | None = None) -> MachineState:
        """The state that verdicts look at.

        Args:
            heap: as MachineState has it.
        """
        disk = [self.nodes["disk"]] if "disk" in self.nodes else []
        servers = (*self.memories, self.mmu, self.swap_pager, *disk)
        return MachineState(
            [thread.at_rest() for thread in self.threads.values()],
            [lock for manager in self.lock_managers for lock in manager.table.locked()],
            {node.name: node.image() for node in servers},
            {processor.name: processor.tlb.state() for processor in self.processors},
            self.scenario.machine.page_size,
            heap,
        )
