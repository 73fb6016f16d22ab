"""Which actor goes to which host of a cluster, and the files of configs/cluster."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from cluster.live.hosts import RayHost, places, still_there
from shared.errors import Infrastructure, UserMistake
from tests.kit import uvmp

ROOT = Path(__file__).parents[2]
A, B, C = (RayHost(f"id-{name}", f"host-{name}", f"10.0.0.{at}", 2.0) for at, name in enumerate("abc", 1))
GROUPS = [["cpu0"], ["cpu1"], ["cpu2"], ["pagedaemon"], ["memory", "mmu"], ["disk", "disk_io"]]


def names(placed: dict[str, RayHost]) -> dict[str, str]:
    return {node: host.name[-1] for node, host in placed.items()}


def test_cpus_are_spread_over_the_hosts_and_servers_stay_together() -> None:
    servers = {"pagedaemon": "a", "memory": "a", "disk": "a"}
    assert names(places(GROUPS, [A, B, C], {})) == {"cpu0": "a", "cpu1": "b", "cpu2": "c"} | servers
    assert names(places(GROUPS, [A, B], {})) == {"cpu0": "a", "cpu1": "b", "cpu2": "a"} | servers
    assert set(names(places(GROUPS, [A], {})).values()) == {"a"}


def test_a_host_without_cpus_is_not_meant_for_work() -> None:
    """As the head of a cluster that was started with num-cpus 0; unless there is no other, or it is asked for."""
    head = A._replace(cpus=0.0)
    assert set(names(places(GROUPS, [head, B], {})).values()) == {"b"}
    assert names(places(GROUPS, [head, B], {"mmu": "host-a"}))["memory"] == "a"
    assert set(names(places(GROUPS, [head], {})).values()) == {"a"}


@pytest.mark.parametrize("name", C.names)
def test_a_host_has_a_name_an_address_and_an_id(name: str) -> None:
    assert names(places(GROUPS, [A, B, C], {"cpu0": name}))["cpu0"] == "c"


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ({"cpu0": "host-x"}, "there is no host host-x; the cluster has host-a (10.0.0.1), host-a (10.0.0.1)"),
        ({"cpu0": "host-a"}, "host-a is the name of 2 Ray nodes; use an id: id-a, id-b"),
        ({"memory": "id-a", "mmu": "id-b"}, "memory and mmu share an actor, so they cannot be on different hosts"),
    ],
)
def test_a_place_that_cannot_be_is_the_users_mistake(wanted: dict[str, str], why: str) -> None:
    with pytest.raises(UserMistake, match=re.escape(f"--place: {why}")):
        places(GROUPS, [A, A._replace(id="id-b")], wanted)


def test_an_actor_whose_host_is_lost_is_started_on_another_host() -> None:
    wanted = {"cpu0": "host-c", "cpu1": "10.0.0.2", "mmu": "id-a"}
    assert still_there(wanted, [A, B, C]) == wanted
    assert still_there(wanted, [A, B]) == {"cpu1": "10.0.0.2", "mmu": "id-a"}
    assert names(places(GROUPS, [A, B], still_there(wanted, [A, B])))["cpu0"] == "a"


def test_without_a_host_there_is_no_machine() -> None:
    with pytest.raises(Infrastructure):
        places(GROUPS, [], {})


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--place", "cpu0=x"], "--place: is only for --engine live"),
        (["--engine", "live", "--place", "cpu0=x"], "--place: is only for --address"),
        (["--engine", "live", "--address", "h:1", "--place", "cpu7=x"], "--place: the machine has no node 'cpu7'"),
        (["--engine", "live", "--address", "h:1", "--place", "cpu0"], "--place: expected NODE=HOST, as cpu0=host-b"),
        (["--engine", "live", "--address", "h:1", "--place", "cpu0=a,cpu0=b"], "--place: cpu0 is given twice"),
    ],
)
def test_a_place_is_checked_before_anything_starts(options: list[str], why: str) -> None:
    result = uvmp("run", "S4", *options)
    assert result.exit_code == 2 and why in result.stderr


# -- configs/cluster -----------------------------------------------------------------------


def file(name: str) -> Any:
    return yaml.safe_load((ROOT / "configs/cluster" / name).read_text(encoding="utf-8"))


def test_a_job_installs_the_wheel_that_this_checkout_makes() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert file("job.yaml")["pip"] == ["${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}/uvmp-" + version + "-py3-none-any.whl"]


def test_both_files_for_kubernetes_have_the_same_cluster_with_a_token() -> None:
    stays, once = file("raycluster.yaml")["spec"], file("rayjob.yaml")["spec"]["rayClusterSpec"]
    for cluster in (stays, once):
        assert cluster["authOptions"] == {"mode": "token"}
        assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    del stays["workerGroupSpecs"][0]["template"]["spec"]["affinity"]  # of computers that only this cluster has
    assert stays == once


KUBERAY = json.loads((ROOT / "tests/cluster/kuberay.json").read_text(encoding="utf-8"))
#: maps whose keys are the user's
FREE = ("requests", "limits", "rayStartParams", "matchLabels")
#: file, where in it, its value, why that is refused
WRONG = [
    ("raycluster.yaml", ("spec", "workerGroupSpecs", 0, "minReplicas"), "3", "'3' is not of type 'integer'"),
    ("raycluster.yaml", ("spec", "headGroupSpec", "rayStartParams", "num-cpus"), 0, "0 is not of type 'string'"),
    ("raycluster.yaml", ("spec", "authOptions", "mode"), "tokens", "'tokens' is not one of"),
    ("raycluster.yaml", ("apiVersion",), "ray.io/v1alpha1", "'ray.io/v1' was expected"),
    ("rayjob.yaml", ("spec", "submitterConfig"), {"retries": 1}, "'retries' was unexpected"),
    ("rayjob.yaml", ("spec", "rayClusterSpec", "workerGroupSpecs", 0, "template", "spec", "containers", 0, "resources",
                     "limits", "memory"), "4 GB", "'4 GB' is not valid"),
]  # fmt: skip


def refusals(name: str, document: Any) -> list[str]:
    """What the published schema says against a file for KubeRay."""
    kind = {"raycluster.yaml": "RayCluster", "rayjob.yaml": "RayJob"}[name]
    schema = {key: value for key, value in KUBERAY.items() if key != "oneOf"} | {"$ref": f"#/$defs/{kind}"}
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(document)]


def maps_of(document: Any) -> Iterator[dict[str, Any]]:
    """Every map in a document whose keys are names of fields."""
    children = document.items() if isinstance(document, dict) else enumerate(document)
    if isinstance(document, dict):
        yield document
    for key, child in children:
        if key not in FREE and isinstance(child, (dict, list)):
            yield from maps_of(child)


@pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml"])
def test_files_for_kubernetes_have_the_fields_that_kuberay_and_kubernetes_publish(name: str) -> None:
    """And any other name for any of these fields is refused."""
    document = file(name)
    assert refusals(name, document) == []
    count = 0
    for fields in maps_of(document):
        for field in list(fields):
            value = fields.pop(field)
            fields[f"{field}_"] = value
            assert any(f"'{field}_' was unexpected" in words for words in refusals(name, document)), field
            fields[field] = fields.pop(f"{field}_")
            count += 1
    assert count >= 40 and refusals(name, document) == []


@pytest.mark.parametrize(("name", "place", "value", "why"), WRONG)
def test_a_value_that_kuberay_refuses_is_seen(name: str, place: tuple[Any, ...], value: object, why: str) -> None:
    document = file(name)
    *outer, last = place
    reduce(getitem, outer, document)[last] = value
    assert any(why in words for words in refusals(name, document)), refusals(name, document)


def test_an_image_is_made_of_what_a_wheel_is_made_of() -> None:
    """And not of the environment, the builds and the history of a checkout."""
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    taken = {line.removeprefix("!") for line in lines if line.startswith("!")}
    needed = {"hatch_build.py", "pyproject.toml", "README.md", "LICENSE"}
    assert "*" in lines and taken == {*wheel["wheel"]["only-include"], *needed}


@pytest.mark.live
def test_ray_up_accepts_its_file() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(file("ray-up.yaml"))
    validate_config(config)
    with pytest.raises(Exception, match="'workers' was unexpected"):
        validate_config(config | {"workers": 2})
