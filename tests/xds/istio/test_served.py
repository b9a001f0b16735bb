"""A rollout extends the mesh before the callout decides, and reduces it when nobody needs it."""

from typing import Any

from protos.istio_mcp_pb2 import Resource as Envelope
from protos.istio_networking_pb2 import VirtualService
from sluice.config import GatewayConfig, policy_document
from sluice.config.checked import LoadedConfig
from tests.xds.istio.configs import HERE, config, version
from xds.istio.served import with_istio
from xds.protocol.resource_types import (
    DESTINATION_RULE,
    ISTIO,
    POLICY,
    SERVICE_ENTRY,
    VIRTUAL_SERVICE,
)
from xds.protocol.snapshot import EMPTY, Snapshot
from xds.resources.compiled import compile_config
from xds.rollout.order import DRAIN, Step, steps

MCP = {"mcp": {"address": "127.0.0.1:18003"}}
PROPAGATION = 3.0


def model(*versions: str, percent: int = 0, **settings: object) -> dict[str, Any]:
    endpoints = {name: version(f"10.0.0.{n}:80") for n, name in enumerate(versions, 1)}
    canaries = [{"version": versions[1], "percent": percent}] if percent else []
    return {"m": {"stable": versions[0], "versions": endpoints, "canaries": canaries, **settings}}


def snapshot(models: dict[str, Any], istio: dict[str, Any] | None = None) -> Snapshot:
    found = config(models, MCP if istio is None else istio)
    return with_istio(compiled(found)).snapshot


def compiled(found: GatewayConfig) -> Any:
    loaded = LoadedConfig(found, policy_document(found, HERE), HERE)
    return compile_config(loaded, found)


def plan(old: Snapshot, new: Snapshot) -> list[Step]:
    return steps(old, new, propagation=PROPAGATION)


def hosts(step: Step) -> set[str]:
    return set(step.snapshot.types[SERVICE_ENTRY].resources)


def decided(snapshot: Snapshot) -> set[str]:
    """The decisions for which the mesh has a route."""
    (resource,) = snapshot.types[VIRTUAL_SERVICE].resources.values()
    spec = VirtualService.FromString(Envelope.FromString(resource.body).body.value)
    matches = (match for route in spec.http for match in route.match)
    return {match.headers["x-model-service"].exact for match in matches}


def shares(snapshot: Snapshot) -> list[int]:
    """The weights of the versions for callers without a callout."""
    (resource,) = snapshot.types[VIRTUAL_SERVICE].resources.values()
    spec = VirtualService.FromString(Envelope.FromString(resource.body).body.value)
    return [each.weight for route in spec.http for each in route.route if each.weight]


def test_the_control_plane_serves_no_resources_of_a_mesh_by_default() -> None:
    served = snapshot(model("v1"), {})
    assert all(not served.types[each].resources for each in ISTIO)


def test_a_version_is_added_to_the_mesh_before_the_callout_decides_for_it() -> None:
    old, new = snapshot(model("v1")), snapshot(model("v1", "v2"))
    make, *others = plan(old, new)
    assert make.extends_mesh
    assert make.pause == PROPAGATION
    assert hosts(make) == {"sluice/m.v1", "sluice/m.v2"}
    assert decided(make.snapshot) == {"m/v1", "m/v2"}
    assert make.snapshot.types[POLICY] == old.types[POLICY]
    assert others[-1].snapshot.types[POLICY].version == new.types[POLICY].version


def test_a_version_is_removed_from_the_mesh_when_the_callout_decides_for_it_no_longer() -> None:
    old, new = snapshot(model("v1", "v2")), snapshot(model("v1"))
    *others, switch, remove = plan(old, new)
    assert all(step.name != "make" for step in others)
    assert switch.snapshot.types[POLICY].version == new.types[POLICY].version
    assert switch.pause == max(DRAIN, PROPAGATION)
    assert decided(switch.snapshot) == {"m/v1", "m/v2"}
    assert hosts(switch) == {"sluice/m.v1", "sluice/m.v2"}
    assert decided(remove.snapshot) == {"m/v1"}
    assert hosts(remove) == {"sluice/m.v1"}


def test_a_replaced_version_has_its_route_until_the_callout_has_switched() -> None:
    """In every step, the mesh has the routes for what the callout decides."""
    old, new = snapshot(model("v1")), snapshot(model("v2"))
    reached = plan(old, new)
    for step in reached:
        policy = step.snapshot.types[POLICY].version
        assert ("m/v1" if policy == old.types[POLICY].version else "m/v2") in decided(step.snapshot)
    assert decided(reached[0].snapshot) == {"m/v1", "m/v2"}
    assert decided(reached[-1].snapshot) == {"m/v2"}


def test_a_step_of_a_canary_changes_weights_when_it_is_in_force_and_waits_for_nothing() -> None:
    mesh = {**MCP, "mesh": "weights"}
    old = snapshot(model("v1", "v2", percent=10), mesh)
    new = snapshot(model("v1", "v2", percent=30), mesh)
    reached = plan(old, new)
    assert not any(step.extends_mesh or step.pause for step in reached)
    for step in reached:
        assert shares(step.snapshot) == ([3000, 7000] if step.in_force else [1000, 9000])


def test_settings_of_a_version_change_when_it_is_in_force() -> None:
    slow = model("v1", pool={"connect_timeout": "9s"})
    old, new = snapshot(model("v1")), snapshot(slow)
    for step in plan(old, new):
        rules = step.snapshot.types[DESTINATION_RULE].version
        assert (rules == new.types[DESTINATION_RULE].version) is step.in_force


def test_other_endpoints_reach_the_mesh_at_once_and_delay_no_other_change() -> None:
    old, models = snapshot(model("v1")), model("v1")
    models["m"]["versions"]["v1"]["endpoints"].append({"address": "10.0.0.9:80"})
    new = snapshot(models)
    make, *others = plan(old, new)
    assert make.snapshot.types[SERVICE_ENTRY].version == new.types[SERVICE_ENTRY].version
    assert not any(step.extends_mesh or step.pause for step in (make, *others))


def test_the_first_config_waits_for_the_mesh() -> None:
    make, _ = plan(EMPTY, snapshot(model("v1")))
    assert make.pause == PROPAGATION


def test_a_later_rollout_waits_for_what_an_earlier_one_has_added() -> None:
    old, new = snapshot(model("v1")), snapshot(model("v1", "v2"))
    make = plan(old, new)[0]
    again, *_ = steps(make.snapshot, new, propagation=PROPAGATION, unsettled=1.5)
    assert (again.name, again.pause, again.extends_mesh) == ("make", 1.5, False)
