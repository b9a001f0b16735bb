"""A gateway with something to show in each panel and for each alert: its config and its traffic."""

import copy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import httpx

from protos.ratelimit_pb2 import RateLimitRequest, RateLimitResponse
from sluice.config.load import load
from sluice.contract.paths import RATE_LIMIT
from tests.integration.gateway import Config, Gateway, base_config, bearer, free_ports
from tests.integration.traffic import meanwhile

EXAMPLES = Path(__file__).parents[2] / "examples"
IMAGE = (EXAMPLES / "digit-7.png").read_bytes()
FILM = (EXAMPLES / "digits.mp4").read_bytes()
DOMAIN = "mesh"
ROUNDS = 10
"""Rounds of requests of one user: the limit refuses the last ones, and the next user's pass."""


def config(directory: Path, key_set: str, redis: str) -> Config:
    """Models that answer, fail, convert, have copies and are limited; limits in Redis; two issuers,
    of which one has no key set; a camera that does not answer.
    """
    settings = base_config()
    nothing, tensors, *video = (f"127.0.0.1:{port}" for port in free_ports(5))
    settings["telemetry"]["access_log"] = {"output": str(directory / "access.log")}
    settings["telemetry"]["reports"] = {"flush_interval": "0.2s"}
    settings["callout"]["copies"] = f"unix:{directory}/copies"
    (issuer,) = settings["auth"]["issuers"]
    del issuer["jwks_file"]
    issuer["jwks_uri"] = key_set
    silent = {"issuer": "https://silent.test", "jwks_uri": f"http://{nothing}/keys"}
    settings["auth"]["issuers"].append({**issuer, **silent})
    echo = settings["models"]["echo"] | {"breaker": {"min_volume": 10}}
    steps = [{"percent": 50, "duration": "1h"}, {"percent": 100, "duration": "1h"}]
    image = {
        "name": "image", "datatype": "UINT8", "shape": [-1, 32, 32, 1],
        "image": {"width": 32, "height": 32, "color": "GRAY"},
    }  # fmt: skip
    failing = copy.deepcopy(echo) | {"versions": {"v1": {"endpoints": [{"address": nothing}]}}}
    settings["models"] = {
        "echo": {
            **echo,
            "canaries": [{"version": "v2", "steps": steps}],
            "mirror": {"version": "v2", "percent": 50},
        },
        "failing": failing,
        "limited": copy.deepcopy(echo),
        "digits": {
            "versions": {"v1": {"protocol": "grpc", "endpoints": [{"address": tensors}]}},
            "inputs": [image],
            "video": {"retries": 0},
        },
    }
    settings["video"] = dict(zip(("http", "grpc", "metrics"), video, strict=True))
    sink = {"file": {"path": str(directory / "events.ndjson")}}
    camera = {"url": f"rtsp://{nothing}/", "model": "digits", "sinks": [sink]}
    settings["videos"] = {"gate": camera}
    day = {"unit": "day", "requests_per_unit": 1}
    settings["limits"] = {
        "listener": None,
        "models": {"limited": {"rate": 1, "burst": 1}},
        "backend": {"kind": "redis", "urls": [redis]},
        "rules": [{"name": "per-subject", "key": ["subject"], "rate": 40, "per": "hour"}],
        "domains": {DOMAIN: {"descriptors": [{"key": "user", "rate_limit": day}]}},
    }
    return settings


@contextmanager
def traffic(gateway: Gateway) -> Iterator[None]:
    """Requests of all kinds in the block: admitted, failing, refused, limited and converted; and
    films.
    """

    def send(stop: threading.Event) -> None:
        with gateway.client() as client, grpc.insecure_channel(_worker(gateway)) as channel:
            for number in count():
                if stop.wait(0.05):
                    return
                _requests(client, number)
                _hit(channel)

    def send_films(stop: threading.Event) -> None:
        with gateway.client() as client:
            for number in count():
                if stop.wait(2):
                    return
                _films(client, number)

    with meanwhile(send), meanwhile(send_films):
        yield


def _requests(client: httpx.Client, number: int) -> None:
    caller: dict[str, Any] = bearer(f"user-{number // ROUNDS}")
    for model in ("echo", "failing", "limited"):
        client.post(f"/v2/models/{model}/infer", json={}, headers=caller)
    png = {"content-type": "image/png", **caller}
    client.post("/v2/models/digits/infer", content=IMAGE, headers=png)
    client.post("/v2/models/digits/infer", content=b"no image", headers=png)
    client.post("/v2/models/echo/infer", json={}, headers=bearer(exp=1))
    client.post("/v2/models/absent/infer", json={})


def _films(client: httpx.Client, number: int) -> None:
    """A film whose last frames the limit refuses, and one that the video service refuses."""
    mp4 = {"content-type": "video/mp4", **bearer(f"film-{number}")}
    for options in ("rate=none", "rate=5&overload=drop"):
        client.post(f"/v2/models/digits/video?{options}", content=FILM, headers=mp4, timeout=60)


def _worker(gateway: Gateway) -> str:
    return str(load(gateway.file).callout.addresses()[0])


def _hit(channel: grpc.Channel) -> None:
    request = RateLimitRequest(domain=DOMAIN)
    request.descriptors.add().entries.add(key="user", value="someone")
    call = channel.unary_unary(
        RATE_LIMIT,
        request_serializer=RateLimitRequest.SerializeToString,
        response_deserializer=RateLimitResponse.FromString,
    )
    call(request, timeout=30)
