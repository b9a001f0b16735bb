"""Callers inside the mesh without the callout: weights of canaries, and the gateways' routes."""

from sluice.contract import headers
from tests.xds.istio.configs import Json, config, routes, specs, version

MODEL: Json = {
    "versions": {"v1": version("10.0.0.1:80"), "v2": version("10.0.0.2:80")},
    "stable": "v1",
    "canaries": [{"version": "v2", "percent": 12.5, "model_types": ["text"]}],
}
WEIGHTS: Json = {"mesh": "weights"}


def of_mesh(found: list[Json]) -> list[Json]:
    return [each for each in found if each.get("match", [{}])[0].get("gateways") == ["mesh"]]


def shares(route: Json) -> dict[str, int]:
    """The weights by the version that Envoy tells the model server."""
    return {
        each["headers"]["request"]["set"]["x-model-version"]: each.get("weight", 0)
        for each in route["route"]
    }


def test_the_percentage_of_a_canary_is_its_weight() -> None:
    *_, last = of_mesh(routes(config({"m": MODEL}, WEIGHTS)))
    assert shares(last) == {"v2": 1250, "v1": 8750}
    paths = [each["uri"] for each in last["match"]]
    assert paths[:2] == [{"exact": "/v2/models/m"}, {"prefix": "/v2/models/m/"}]
    assert last["match"][2] == {
        "uri": {"prefix": "/inference.GRPCInferenceService/"},
        "headers": {"x-model-name": {"exact": "m"}},
        "gateways": ["mesh"],
    }


def test_a_canary_step_changes_only_the_weights() -> None:
    step = {**MODEL, "canaries": [{**MODEL["canaries"][0], "percent": 100}]}
    before, after = (config({"m": each}, WEIGHTS) for each in (MODEL, step))
    assert shares(of_mesh(routes(after))[-1]) == {"v2": 0}
    assert specs(before, "ServiceEntry") == specs(after, "ServiceEntry")
    assert routes(config({"m": MODEL})) == routes(config({"m": step}))


def test_headers_and_paths_choose_a_version_before_the_weights() -> None:
    v1, v2, canary, _ = of_mesh(routes(config({"m": {**MODEL, "paths": ["/a"]}}, WEIGHTS)))
    assert (shares(v1), shares(v2), shares(canary)) == ({"v1": 0}, {"v2": 0}, {"v2": 0})
    matches = [(each["uri"], each.get("headers", {})) for each in v2["match"]]
    assert ({"exact": "/v2/models/m/versions/v2"}, {}) in matches
    assert ({"prefix": "/a/"}, {"x-model-version": {"exact": "v2"}}) in matches
    chosen = [each["headers"] for each in canary["match"] if each["uri"] == {"exact": "/a"}]
    assert chosen == [{"x-canary": {"exact": "true"}}, {"x-model-type": {"exact": "text"}}]


def test_a_caller_of_the_mesh_cannot_use_the_routes_of_decided_requests() -> None:
    found = config({"m": MODEL}, WEIGHTS)
    assert specs(found, "VirtualService")["sluice"]["gateways"] == ["istio-ingress/public", "mesh"]
    decided = [
        match
        for route in routes(found)
        for match in route.get("match", [])
        if "x-model-service" in match.get("headers", {})
    ]
    assert decided
    assert all(each["gateways"] == ["istio-ingress/public"] for each in decided)
    removed = of_mesh(routes(found))[-1]["route"][0]["headers"]["request"]["remove"]
    internal = {each for each in vars(headers).values() if str(each).startswith("x-sluice-")}
    of_requests = internal - {headers.INTERNAL_PREFIX, headers.LIMIT, headers.STAGE_METADATA}
    assert {"x-model-service", *of_requests} == set(removed)


def test_a_mesh_without_gateways_has_only_weights() -> None:
    found = routes(config({"m": MODEL}, {"gateways": [], **WEIGHTS}))
    assert len(of_mesh(found)) == len(found) - 1


def test_callers_whose_sidecars_ask_the_callout_use_the_routes_of_the_gateways() -> None:
    found = config({"m": MODEL}, {"mesh": "callout"})
    assert specs(found, "VirtualService")["sluice"]["gateways"][-1] == "mesh"
    assert of_mesh(routes(found)) == []
