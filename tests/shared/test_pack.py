"""A scenario travels to actors and into run folders whole."""

from __future__ import annotations

import json

import pytest

from shared.scenario.pack import pack_scenario, unpack_scenario
from shared.wire.codec import decode, encode
from tests.kit import PLAIN, SHIPPED, scenario


@pytest.mark.parametrize("name", SHIPPED)
def test_a_scenario_comes_back_equal_through_msgpack_and_json(name: str) -> None:
    """An actor that ran another scenario than the driver would be believed."""
    for scene in (scenario(name), scenario(name).without_errata().with_detect({"race": "note"})):
        packed = pack_scenario(scene)
        assert unpack_scenario(decode(PLAIN, encode(PLAIN, packed))) == scene
        again = unpack_scenario(json.loads(json.dumps(packed)))
        assert again == scene and again.digest() == scene.digest() and again.outcome() == scene.outcome()


@pytest.mark.parametrize("colocate", ["true", "false", "[[cpu0, mmu], [memory, lock_manager]]"])
def test_which_nodes_share_an_actor_travels_too(colocate: str) -> None:
    scene = scenario("E1", colocate=colocate)
    again = unpack_scenario(json.loads(json.dumps(pack_scenario(scene))))
    assert again.machine == scene.machine and again.machine.actors == scene.machine.actors
