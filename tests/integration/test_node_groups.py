"""The real Envoy, in a group that serves fewer models, and when it leaves the group."""

from collections.abc import Iterator

import grpc
import pytest

from sluice.contract.headers import MODEL_NAME
from tests.integration.gateway import Gateway, base_config, bearer, running


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    config = base_config()
    config["models"]["other"] = dict(config["models"]["echo"])
    config["node_groups"] = {"edge": {"match": {"ids": ["env*"]}, "models": ["echo"]}}
    with running(config) as started:
        yield started


def refusal_of_grpc(gateway: Gateway, model: str) -> tuple[object, str | None]:
    address = gateway.config["listener"]["address"]
    metadata = [(MODEL_NAME, model), *((k.lower(), v) for k, v in bearer().items())]
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as refused:
            call(b"\n\x04echo", metadata=metadata, timeout=10)
    error = refused.value
    assert isinstance(error, grpc.Call)
    return error.code(), error.details()


def test_a_model_that_the_group_does_not_serve_is_unknown(gateway: Gateway) -> None:
    with gateway.client() as client:
        served = client.post("/v2/models/echo/infer", headers=bearer(), content=b"{}")
        for caller in (bearer(), {}):
            answers = [
                client.post(f"/v2/models/{name}{path}", headers=caller, content=b"{}")
                for name in ("other", "nothing")
                for path in ("/infer",)
            ]
            assert [each.status_code for each in answers] == [404, 404]
            here, unknown = ({**each.json(), "instance": ""} for each in answers)
            assert here == unknown
            assert here["reason"] == "unknown_model"
    assert served.status_code == 200
    assert refusal_of_grpc(gateway, "other")[0] == refusal_of_grpc(gateway, "nothing")[0]
    assert refusal_of_grpc(gateway, "other")[0] is grpc.StatusCode.NOT_FOUND


def test_the_status_shows_the_group(gateway: Gateway) -> None:
    envoys = [each for each in gateway.status()["nodes"] if each["kind"] == "envoy"]
    assert [each["group"] for each in envoys] == ["edge"]
    assert {each["group"] for each in gateway.status()["nodes"]} == {"edge", None}


def test_an_envoy_that_leaves_the_group_serves_all_models(gateway: Gateway) -> None:
    gateway.edit(lambda config: config.pop("node_groups"))
    with gateway.client() as client:
        answer = client.post("/v2/models/other/infer", headers=bearer(), content=b"{}")
    # The model server does not know this name, but it gets the request.
    assert "unknown_model" not in answer.text
