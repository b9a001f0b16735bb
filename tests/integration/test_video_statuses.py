"""With a real Envoy: the answers of the gateway to requests for frames have their reasons."""

import asyncio
from collections.abc import Iterator

import pytest

from sluice.contract.video import VideoReason
from tests.integration.frame_model import frame_model
from tests.integration.gateway import Gateway, base_config, bearer, free_ports, running
from video.inference.caller_headers import call_metadata
from video.inference.failure import Failure, InferenceError
from video.inference.gateway import GatewayClient
from video.inference.request import infer_request


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """A gateway with one model server. `jpegs` needs a token, `limited` admits one request."""
    config = base_config()
    with frame_model("jpegs") as model:
        absent = model.config()
        absent["versions"]["v1"]["endpoints"] = [{"address": f"127.0.0.1:{free_ports(1)[0]}"}]
        public = {"access": {"public": True}, "breaker": {"enabled": False}}
        config["models"] = {
            "jpegs": {**model.config(), "access": {"allow": [{"groups": ["staff"]}]}},
            "limited": {**model.config(), **public},
            "absent": {**absent, **public},
        }
        for each in config["models"].values():
            each.pop("video")
        limit = {"name": "few", "rate": 1, "per": "hour"}
        match = {"part": "model", "values": ["limited"]}
        config["limits"] = {"rules": [{**limit, "match": [match]}]}
        with running(config, demo=False) as started:
            yield started


def answer(gateway: Gateway, model: str, caller: dict[str, str], requests: int = 1) -> Failure:
    """How the last of so many requests fails."""

    async def ask() -> Failure:
        client = GatewayClient(gateway.config["listener"]["address"])
        frame = infer_request(model, "picture", "BYTES", (1,), b"\x02\0\0\0\xff\xd8")
        metadata = call_metadata(list(caller.items()), model, None)
        try:
            for _ in range(requests):
                try:
                    await client.infer(frame, metadata, 10)
                except InferenceError as error:
                    failure = error.failure
            return failure
        finally:
            await client.close()

    return asyncio.run(ask())


def test_a_token_that_has_expired_ends_the_stream(gateway: Gateway) -> None:
    failure = answer(gateway, "jpegs", bearer(group="staff", exp=1_000_000_000))
    assert (failure.reason, failure.ends_stream) == (VideoReason.CREDENTIALS_EXPIRED, True)


def test_a_caller_without_access_ends_the_stream(gateway: Gateway) -> None:
    failure = answer(gateway, "jpegs", bearer())
    assert (failure.reason, failure.ends_stream) == (VideoReason.FORBIDDEN, True)


def test_an_unknown_model_ends_the_stream(gateway: Gateway) -> None:
    failure = answer(gateway, "unknown", bearer())
    assert (failure.reason, failure.ends_stream) == (VideoReason.UNKNOWN_MODEL, True)


def test_an_error_of_the_model_is_not_retried(gateway: Gateway) -> None:
    failure = answer(gateway, "jpegs", bearer(group="staff"))
    assert (failure.reason, failure.may_pass) == (VideoReason.MODEL_FAILED, False)


def test_a_limit_may_pass(gateway: Gateway) -> None:
    failure = answer(gateway, "limited", {}, requests=3)
    assert (failure.reason, failure.may_pass) == (VideoReason.REFUSED, True), failure.detail


def test_a_model_server_that_is_down_may_come_back(gateway: Gateway) -> None:
    failure = answer(gateway, "absent", {})
    assert (failure.reason, failure.may_pass) == (VideoReason.MODEL_UNAVAILABLE, True)
