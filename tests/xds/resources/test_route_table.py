"""The route table: which model's routes a request gets, and what these routes do."""

from typing import Any

import pytest

from tests.xds.resources.matching import all_routes, route, route_table, routes
from tests.xds.resources.test_resources import compiled, manager, model
from xds.protocol.resource_types import ROUTE
from xds.protocol.snapshot import Snapshot

CALLOUT = "envoy.filters.http.ext_proc"


def names(snapshot: Snapshot, **headers: str) -> list[str]:
    renamed = {name.replace("_", "-"): value for name, value in headers.items()}
    return [each.name for each in routes(snapshot, {**renamed, ":path": renamed.pop("path")})]


def of_model(snapshot: Snapshot, name: str) -> list[Any]:
    (host,) = route_table(snapshot).virtual_hosts
    return [each for each in all_routes(host.matcher) if each.name == name]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/x", "a"), ("/x/", "a"), ("/x?q", "a"), ("/x/b", "b"), ("/x/b?/y/z", "b"),
        ("/x/b/c", "b"), ("/x/bc", "a"), ("/xy", "other"), ("/y", "b"),
        ("/y/z/1", "a"), ("/y?/z", "b"), ("/v2/models/a", "a"), ("/v2/models/a?b", "a"),
        ("/v2/models/a/infer", "a"),
        ("/v2/models/ab", "other"), ("/v2/models/b/y", "b"), ("/", "other"),
    ],
)  # fmt: skip
def test_the_longest_path_decides_as_in_the_callout(path: str, expected: str) -> None:
    models = {"a": model(paths=["/x", "/y/z"]), "b": model(paths=["/x/b", "/y"])}
    assert route(compiled(models=models), {":path": path}).name == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v2/models/text/infer", "text"), ("/v2/models/text/versions/v1/infer", "text"),
        ("/v2/models/off/infer", "off"), ("/v2/models/any/infer", "any/native"),
        ("/v2/models/x/infer", "any/native"), ("/v2/models/json/infer", "text"),
        ("/v2/models/json/versions/v1/infer", "json/native"),
        ("/v2/models/json/versions/v1/infer/", "json"),
        ("/v2/models/json/version/v1/infer", "json"),
    ],
)  # fmt: skip
def test_a_request_does_not_fall_to_native_routes_of_a_shorter_path(
    path: str, expected: str
) -> None:
    public, text = {"public": True}, ["text/plain"]
    models = {
        "text": model(access=public, content_types=text, paths=["/v2/models/json/infer"]),
        "off": model(access=public, placement="callout"),
        "any": model(access=public, paths=["/v2/models"]),
        "json": model(access=public),
    }
    request = {":method": "POST", "content-length": "1", "content-type": "application/json"}
    assert route(compiled(models=models), {":path": path, **request}).name == expected


def test_the_table_has_the_native_routes_of_a_path_once_for_each_of_its_forms() -> None:
    """The forms: the path itself, with a query, and what is below it."""

    def native(*paths: str) -> int:
        models = {"a": model(access={"public": True}, paths=list(paths))}
        return len(of_model(compiled(models=models), "a/native"))

    routes_of_a_path = ["version in the header", "stable"]
    assert native("/x") - native() == 3 * len(routes_of_a_path)


def test_a_path_above_those_of_all_operations_has_native_routes_for_them() -> None:
    models = {"any": model(access={"public": True}, paths=["/v2"]), "b": model()}
    request = {":method": "POST", "content-length": "1", "content-type": "application/json"}
    found = [
        route(compiled(models=models), {":path": f"/v2/models/{name}/infer", **request}).name
        for name in ("x", "b", "any")
    ]
    assert found == ["any/native", "b", "any/native"]


def test_a_decided_request_gets_the_routes_of_the_chosen_model_whatever_its_path() -> None:
    snapshot = compiled(models={"a": model(), "b": model()})
    assert set(names(snapshot, path="/v2/models/a/infer", x_sluice_model="b")) == {"b"}


def test_a_grpc_call_gets_the_routes_of_the_model_in_its_header() -> None:
    snapshot = compiled(models={"a": model(paths=["/inference.GRPCInferenceService"])})
    path = "/inference.GRPCInferenceService/ModelInfer"
    assert names(snapshot, path=path, x_model_name="a") == ["a"]
    assert set(names(snapshot, path=path, x_model_name="b")) == {"other"}


def test_a_request_costs_no_more_comparisons_with_more_models() -> None:
    """Only maps have one entry for each model."""

    def lists(message: Any) -> int:
        tree = message.matcher_tree
        nested = [*tree.exact_match_map.map.values(), *tree.prefix_match_map.map.values()]
        nested += [each.on_match for each in message.matcher_list.matchers]
        nested += [message.on_no_match]
        below = max((lists(each.matcher) for each in nested if each.HasField("matcher")), default=0)
        return max(len(message.matcher_list.matchers), below)

    few, many = (
        route_table(compiled(models={f"m{n}": model() for n in range(count)})).virtual_hosts[0]
        for count in (2, 50)
    )
    assert lists(few.matcher) == lists(many.matcher)


@pytest.mark.parametrize(
    ("path", "claimed"),
    [("/v2", True), ("/v2/health", True), ("/v2/health/ready", True), ("/v2/heal", False),
     ("/v2/health/ready/x", False), ("/v2/health/live", False)],
)  # fmt: skip
def test_a_model_may_claim_the_paths_of_the_gateway(path: str, claimed: bool) -> None:
    snapshot = compiled(models={"a": model(paths=[path])})
    filters = {item.name for item in manager(snapshot).http_filters}
    assert ("envoy.filters.http.health_check" not in filters) == claimed
    for own in ("/v2", "/v2/health/live", "/v2?q", "/v2/health/live?q"):
        found = route(snapshot, {":path": own})
        is_model = own.partition("?")[0] == path or own.startswith(f"{path}/")
        assert (found.name == "a") == is_model
        assert found.HasField("direct_response") != is_model


def test_probes_of_the_liveness_ask_no_callout_and_have_no_limit() -> None:
    snapshot = compiled()
    live, metadata = (route(snapshot, {":path": path}) for path in ("/v2/health/live", "/v2"))
    limits = {each.name for each in manager(snapshot).http_filters if "ratelimit" in each.name}
    deciding = {CALLOUT, "envoy.filters.http.jwt_authn"}
    assert set(live.typed_per_filter_config) == limits | deciding
    assert set(metadata.typed_per_filter_config) == deciding


def test_every_callout_route_reads_its_cluster_from_the_decision() -> None:
    snapshot = compiled(models={"a": model(paths=["/a"]), "b": model()}, placement="callout")
    (host,) = route_table(snapshot).virtual_hosts
    assert list(host.domains) == ["*"]
    actions = [each.route for each in all_routes(host.matcher) if each.HasField("route")]
    assert {action.cluster_header for action in actions} == {"x-model-service"}


@pytest.mark.parametrize(
    ("of_model", "limit"),
    [
        ({}, 3000),
        ({"max_body": 4000}, 4000),
        ({"max_response": 5000}, 5005),
        ({"max_body": 1, "max_response": 1}, 6),
    ],
)
def test_envoy_buffers_the_larger_of_both_bodies_of_models_that_convert(
    of_model: dict[str, int], limit: int
) -> None:
    inputs = [{"name": "x", "datatype": "FP32", "shape": [1]}]
    models = {"a": model(inputs=inputs, **of_model), "b": model(**of_model)}
    snapshot = compiled(models=models, requests={"max_body": 3000, "max_response": 2000})
    converts, passes = (route(snapshot, {":path": f"/v2/models/{name}"}) for name in "ab")
    assert converts.request_body_buffer_limit.value == limit
    assert not passes.HasField("request_body_buffer_limit")


@pytest.mark.parametrize(
    ("retries", "reads"),
    [
        ({}, ["connect-failure,refused-stream,reset-before-request,reset"]),
        ({"retry_on": ["5xx"]}, ["5xx,reset"]),
        ({"reads": False}, []),
        ({"attempts": 0}, []),
    ],
)
def test_requests_that_change_nothing_have_a_route_with_more_retries(
    retries: dict[str, Any], reads: list[str]
) -> None:
    snapshot = compiled(models={"m": model(retries=retries)})
    found = [
        each.route.retry_policy.retry_on
        for each in routes(snapshot, {":path": "/", "x-sluice-model": "m"})
        if any(header.name == ":method" for header in each.match.headers)
    ]
    assert found == reads


def test_only_models_with_websocket_allow_the_upgrade() -> None:
    snapshot = compiled(models={"a": model(websocket=True), "b": model()})
    assert all(each.route.upgrade_configs for each in of_model(snapshot, "a"))
    assert not any(each.route.upgrade_configs for each in of_model(snapshot, "b"))


def test_a_connect_request_has_a_route_that_refuses_it() -> None:
    first, last = routes(compiled(models={"a": model()}), {":method": "CONNECT"})
    assert first.match.HasField("connect_matcher")
    assert last.match.prefix == "/"


def test_an_edit_writes_only_the_entries_of_the_edited_model_again() -> None:
    models = {f"m{n}": model(paths=[f"/x/{n}"], access={"public": True}) for n in range(50)}
    before = set(map(id, parts := large_parts(compiled(models=models))))
    edited = {**models, "m7": model(paths=["/x/7"], access={"public": True}, timeout="7s")}
    after = large_parts(compiled(models=edited))
    written = [part for part in after if id(part) not in before]
    assert len(parts) > 50 * 5
    assert any(b"m7" in part for part in written)
    assert not any(b"m8" in part for part in written)


def large_parts(snapshot: Snapshot) -> list[bytes]:
    (table,) = snapshot.types[ROUTE].resources.values()
    return [part for part in table.parts if len(part) > 200]


def test_the_order_of_models_in_the_config_does_not_change_the_routes() -> None:
    models = {"a": model(paths=["/x/y"]), "b": model(paths=["/x"]), "c": model()}
    reversed_models = dict(reversed(models.items()))
    first, second = compiled(models=models), compiled(models=reversed_models)
    assert first.types[ROUTE].version == second.types[ROUTE].version
