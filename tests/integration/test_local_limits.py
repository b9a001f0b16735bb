"""With a real Envoy: limits of the listener, of models and of model types.

Envoy enforces them before it decides about a request, so they are the same whether Envoy admits
requests alone or the callout decides all.
"""

from collections.abc import Iterator

import httpx
import pytest

from tests import plain_http
from tests.integration.gateway import (
    Config,
    Gateway,
    base_config,
    bearer,
    decided_by_placement,
    running,
)
from tests.integration.raw_server import RawServer

NO_LIMITS: Config = {"listener": None, "models": {}, "model_types": {}, "address_share": 1}
TEXT = "/v2/models/text/infer"


@pytest.fixture(scope="module")
def gateway(placement: str, server: RawServer) -> Iterator[Gateway]:
    """Models of two types, of which tests set the limits."""
    server.respond("200 OK")
    config = base_config(placement)
    model = {"versions": {"v1": {"endpoints": [{"address": server.address}]}}}
    config["models"] = {
        "one": {**model, "type": "image"},
        "two": {**model, "type": "image"},
        "text": {**model, "type": "nlp", "paths": ["/text"]},
        "other": {**model, "type": "nlp"},
        "free": model,
    }
    config["limits"] = NO_LIMITS
    with running(config, demo=False) as started:
        yield started


@pytest.fixture(autouse=True)
def without_limits(gateway: Gateway) -> Iterator[None]:
    """The limits of a test end with it: a change of a limit fills the buckets of its kind."""
    yield
    if gateway.config["limits"] != NO_LIMITS:
        limit(gateway)


def limit(gateway: Gateway, **limits: Config | float) -> None:
    gateway.edit(lambda config: config.update(limits={**NO_LIMITS, **limits}))


def admitted(
    gateway: Gateway, *paths: str, count: int, address: str = "127.0.0.1", **headers: str
) -> int:
    """How many of `count` requests from an address of this machine the limits admit."""
    sent = bearer() | {name.replace("_", "-"): value for name, value in headers.items()}
    transport = httpx.HTTPTransport(verify=False, local_address=address)
    with plain_http.client(base_url=gateway.url, transport=transport, timeout=30) as client:
        answers = [
            client.post(paths[number % len(paths)], json={}, headers=sent)
            for number in range(count)
        ]
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) <= {200, 429}
    return statuses.count(200)


def test_the_models_of_a_type_share_a_bucket_and_so_do_the_paths_of_a_model(
    gateway: Gateway,
) -> None:
    slow = {"rate": 1, "burst": 20}
    limit(gateway, models={"text": slow}, model_types={"image": slow})
    # The bucket gets one token a second while the requests are sent.
    with decided_by_placement(gateway):
        infer = ("/v2/models/one/infer", "/v2/models/two/infer")
        assert 20 <= admitted(gateway, *infer, count=50) < 30
        assert 20 <= admitted(gateway, TEXT, "/text", count=50) < 30
        assert admitted(gateway, "/v2/models/free/infer", count=50) == 50
    limit(gateway, models={}, model_types={})
    assert admitted(gateway, *infer, TEXT, "/text", count=40) == 40


def test_an_edit_of_something_else_does_not_fill_the_buckets_of_a_limit(gateway: Gateway) -> None:
    def used(count: int) -> int:
        return admitted(gateway, TEXT, count=count)

    limit(
        gateway,
        listener={"rate": 1, "burst": 1000},
        models={"text": {"rate": 1, "burst": 200}},
        model_types={"nlp": {"rate": 1, "burst": 100}},
    )
    # The buckets get one token a second while requests are sent and edits are applied.
    with decided_by_placement(gateway):
        assert 100 <= used(200) < 150
    gateway.edit(lambda c: c["models"]["text"].update(timeout="7s"))
    assert used(100) < 50
    gateway.edit(lambda c: c["limits"]["models"].update(text={"rate": 1, "burst": 190}))
    assert used(100) < 50
    gateway.edit(lambda c: c["limits"]["model_types"].update(nlp={"rate": 1, "burst": 90}))
    assert used(100) >= 90
    gateway.edit(lambda c: c["models"]["text"].pop("timeout"))


SLOW = {"rate": 1, "burst": 40}
"""A limit of which an address can use 10 requests, and a token every 4 seconds."""


@pytest.mark.parametrize(
    "limits",
    [
        {"listener": SLOW},
        {"models": {"text": SLOW}},
        {"model_types": {"nlp": SLOW}},
        {"listener": SLOW, "models": {"text": SLOW, "other": SLOW}},
    ],
)
def test_a_client_address_can_use_only_its_share_of_a_limit(
    gateway: Gateway, limits: Config
) -> None:
    limit(gateway, address_share=0.25, **limits)
    with decided_by_placement(gateway):
        # More requests than the limit has tokens: refusals take no tokens of other addresses.
        assert 10 <= admitted(gateway, TEXT, count=100, address="127.0.0.2") < 40
        # Without trusted hops, a client cannot choose its address.
        forged = {"x_forwarded_for": "192.0.2.1"}
        assert admitted(gateway, TEXT, count=12, address="127.0.0.2", **forged) < 10
        for other in ("127.0.0.3", "127.0.0.4"):
            assert 10 <= admitted(gateway, TEXT, count=20, address=other) < 20


def test_behind_a_trusted_proxy_each_client_has_its_share(gateway: Gateway) -> None:
    gateway.edit(lambda config: config["listener"].update(trusted_hops=1))
    limit(gateway, listener=SLOW, address_share=0.25)

    def used(forwarded_for: str) -> int:
        return admitted(gateway, TEXT, count=20, x_forwarded_for=forwarded_for)

    with decided_by_placement(gateway):
        assert 10 <= used("192.0.2.1") < 20
        # The proxy has appended the last address. The client has sent the others.
        assert used("192.0.2.77, 192.0.2.1") < 10
        assert 10 <= used("2001:db8:0:1::1") < 20
        assert used("2001:db8:0:1:ffff::2") < 10
        assert used("2001:db8:0:2::1") >= 10
    gateway.edit(lambda config: config["listener"].pop("trusted_hops"))
