"""Changes of a config while Envoy decides requests alone, seen on connections that stay open.

A version that is in force admits no request that it refuses, wherever the request is decided.
"""

import asyncio
import copy
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from extproc.policy.received import ReceivedPolicy
from extproc.policy.subscriber import follow
from protos.base_pb2 import Node
from sluice.cli import main
from tests import plain_http
from tests.integration.gateway import (
    Config,
    Gateway,
    base_config,
    bearer,
    callout_calls,
    eventually,
    jwks,
    running,
)

OTHER_KEY = rsa.generate_private_key(65537, 2048)
INFER = "/v2/models/echo/infer"
Capture = pytest.CaptureFixture[str]


def config() -> Config:
    settings = base_config()
    (issuer,) = settings["auth"]["issuers"]
    issuer.pop("jwks_file")
    issuer |= {"leeway": "30s", "jwks": jwks()}
    versions = settings["models"]["echo"]["versions"]
    settings["models"]["echo"] = {
        "stable": "v1",
        "versions": versions,
        "access": {"allow": [{"groups": ["staff"]}, {"groups": ["guests"]}]},
        "claim_rules": [{"claim": "tier", "value": "gold", "version": "v2"}],
        "canaries": [{"version": "v2", "headers": [{"name": "x-canary", "value": "true"}]}],
    }
    settings["models"]["other"] = {"versions": {"v1": versions["v2"]}, "access": {"public": True}}
    return settings


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with running(config()) as gateway:
        yield gateway


@pytest.fixture
def connection(gateway: Gateway) -> Iterator[httpx.Client]:
    """A client whose requests all use one connection."""
    limits = httpx.Limits(max_connections=1, max_keepalive_connections=1)
    with plain_http.client(base_url=gateway.url, limits=limits, timeout=30) as client:
        yield client


def stream(answer: httpx.Response) -> object:
    """The stream of bytes of a connection: the same object for all its responses."""
    return answer.extensions["network_stream"]


def post(
    client: httpx.Client, path: str = INFER, headers: dict[str, str] | None = None, **claims: object
) -> httpx.Response:
    credentials = bearer(**claims) if claims else {}
    return client.post(path, json={}, headers={**credentials, **(headers or {})})


def is_native(gateway: Gateway, client: httpx.Client, **claims: object) -> bool:
    """Whether Envoy admits the request without the callout."""
    before = callout_calls(gateway)
    status = post(client, **claims).status_code
    return status == 200 and callout_calls(gateway) == before


def asks_callout(gateway: Gateway, client: httpx.Client, path: str) -> bool:
    """Whether the callout decides about a request for a model that the server does not know."""
    before = callout_calls(gateway)
    assert post(client, path).json() == {"error": "Not Found"}
    return callout_calls(gateway) > before


def test_placement_callout_takes_effect_on_an_open_connection(
    gateway: Gateway, connection: httpx.Client
) -> None:
    assert is_native(gateway, connection, group="staff")
    opened = stream(post(connection, group="staff"))

    def place(where: str) -> None:
        gateway.edit(lambda each: each["models"]["echo"].update(placement=where))

    place("callout")
    assert not is_native(gateway, connection, group="staff")
    place("auto")
    assert is_native(gateway, connection, group="staff")
    assert stream(post(connection, group="staff")) is opened


def test_a_decision_of_the_callout_is_not_matched_natively_again(
    gateway: Gateway, connection: httpx.Client
) -> None:
    """The headers that the callout sets must not make a native route match."""
    before = callout_calls(gateway)
    body = iter([b"{}"])  # without a declared length, so the callout decides
    headers = {**bearer(group="staff", tier="gold"), "content-type": "application/json"}
    answer = connection.post(INFER, content=body, headers=headers)
    assert answer.status_code == 200
    assert callout_calls(gateway) == before + 1
    assert answer.json()["version"] == "v2"
    chosen = {"x-model-service": "echo/v1", "x-sluice-model": "echo", "x-sluice-subject": "root"}
    assert post(connection, headers=chosen).status_code == 401


def test_after_an_edit_that_revokes_a_group_no_request_by_it_is_admitted(
    gateway: Gateway, connection: httpx.Client
) -> None:
    assert is_native(gateway, connection, group="guests")
    opened = stream(post(connection, group="guests"))
    rules = gateway.config["models"]["echo"]["access"]["allow"]
    begun, stopped, late = threading.Event(), threading.Event(), list[float]()

    def send() -> None:
        with plain_http.client(base_url=gateway.url, timeout=30) as client:
            while not stopped.is_set():
                started = time.monotonic()
                if post(client, group="guests").status_code == 200:
                    late.append(started)
                    begun.set()

    senders = [threading.Thread(target=send) for _ in range(4)]
    for sender in senders:
        sender.start()
    try:
        assert begun.wait(60)
        version = gateway.status()["version"]
        gateway.config["models"]["echo"]["access"] = {"allow": rules[:1]}
        gateway.write()
        while gateway.status()["version"] == version:
            pass
        in_force = time.monotonic()
        refused = post(connection, group="guests")
    finally:
        stopped.set()
        for sender in senders:
            sender.join()
    assert refused.status_code == 403
    assert stream(refused) is opened
    assert max(late) < in_force
    gateway.edit(lambda each: each["models"]["echo"].update(access={"allow": rules}))


@contextmanager
def held_routes(gateway: Gateway) -> Iterator[None]:
    """No Envoy gets new routes in the block: a further worker does not accept the policies."""
    connected, accepting = threading.Event(), threading.Event()
    loop = asyncio.new_event_loop()

    async def apply(_: ReceivedPolicy) -> None:
        if connected.is_set():
            await asyncio.to_thread(accepting.wait)
        connected.set()

    address = gateway.config["control_plane"]["xds"]
    following = loop.create_task(follow(address, Node(id="slow"), apply))
    following.add_done_callback(lambda _: loop.stop())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        assert connected.wait(60)
        eventually(gateway.in_sync)
        yield
    finally:
        accepting.set()
        eventually(gateway.in_sync)
        loop.call_soon_threadsafe(following.cancel)
        thread.join()
        loop.close()


def test_an_edit_is_obeyed_before_envoy_has_the_new_routes(
    gateway: Gateway, connection: httpx.Client
) -> None:
    other, new = "/v2/models/other/infer", "/v2/models/new/infer"
    before, version = copy.deepcopy(gateway.config), gateway.status()["version"]
    assert is_native(gateway, connection, group="guests")
    assert not asks_callout(gateway, connection, other)
    with held_routes(gateway):
        gateway.config["models"]["echo"]["access"] = {"allow": [{"groups": ["staff"]}]}
        gateway.config["models"]["new"] = copy.deepcopy(gateway.config["models"]["other"])
        gateway.write()
        eventually(lambda: post(connection, group="guests").status_code == 403)
        assert (gateway.status()["version"], gateway.status()["step"]) == (version, "decide")
        assert post(connection, group="staff").status_code == 200
        assert not is_native(gateway, connection, group="staff")
        assert not asks_callout(gateway, connection, other)
        assert asks_callout(gateway, connection, new)
    assert is_native(gateway, connection, group="staff")
    assert not asks_callout(gateway, connection, new)
    gateway.edit(lambda each: each.update(before))


def test_native_routes_stay_on_while_workers_restart(
    gateway: Gateway, connection: httpx.Client
) -> None:
    for worker in gateway.workers():
        os.kill(worker, signal.SIGKILL)
        assert is_native(gateway, connection, group="staff")
        eventually(lambda pid=worker: pid not in gateway.workers() and len(gateway.workers()) == 2)
        assert is_native(gateway, connection, group="staff")


def test_keys_and_routes_that_change_together_are_never_mixed(
    gateway: Gateway, connection: httpx.Client
) -> None:
    """No config admits staff with this key, but a mix does: the keys of one, the groups of one."""
    key_sets = (jwks(OTHER_KEY), jwks())
    stopped, wrong = threading.Event(), list[str]()
    public, closed = {"public": True}, {"allow": [{"groups": ["guests"]}]}
    gateway.edit(lambda each: each["models"]["other"].update(access=closed))

    def send() -> None:
        with plain_http.client(base_url=gateway.url, timeout=30) as client:
            while not stopped.is_set():
                answer = post(client, "/v2/models/other/infer", group="staff")
                if answer.status_code == 200:
                    wrong.append(answer.text)

    senders = [threading.Thread(target=send) for _ in range(4)]
    for sender in senders:
        sender.start()
    try:
        for number in range(6):

            def change(each: Config, number: int = number) -> None:
                (issuer,) = each["auth"]["issuers"]
                issuer["jwks"] = key_sets[number % 2]
                groups = ["guests"] if number % 2 else ["staff"]
                each["models"]["other"]["access"] = {"allow": [{"groups": groups}]}

            gateway.edit(change)
    finally:
        stopped.set()
        for sender in senders:
            sender.join()

    def restore(each: Config) -> None:
        each["auth"]["issuers"][0]["jwks"] = jwks()
        each["models"]["other"]["access"] = public

    gateway.edit(restore)
    assert wrong == []


REQUESTS: dict[str, tuple[tuple[str, ...], dict[str, object]]] = {
    "token": ((), {"group": "staff"}),
    "claim rule": ((), {"group": "staff", "tier": "gold"}),
    "canary": (("-H", "x-canary: true"), {"group": "staff"}),
    "named version": (("-H", "x-model-version: v2"), {"group": "staff"}),
    "unknown version": (("-H", "x-model-version: v9"), {"group": "staff"}),
    "forbidden": ((), {"group": "nobody"}),
    "no token": ((), {}),
    "API key": (("-H", "x-api-key: k"), {}),
    "no length": (("-H", "transfer-encoding: chunked"), {"group": "staff"}),
    "GET": (("-X", "GET"), {"group": "staff"}),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_explain_says_where_a_request_is_decided(
    gateway: Gateway, connection: httpx.Client, capsys: Capture, name: str
) -> None:
    arguments, claims = REQUESTS[name]
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    headers = {"content-type": "application/json", **(bearer(**claims) if claims else {})}
    if "-H" in options:
        key, value = options["-H"].split(": ")
        headers[key] = value
    method = options.get("-X", "POST")
    curl = [part for key, value in headers.items() for part in ("-H", f"{key}: {value}")]
    body = ("-d", "{}") if method == "POST" else ("-X", method)
    main(["explain", str(gateway.file), "--json", *curl, *body, f"{gateway.url}{INFER}"])
    explained: dict[str, Any] = json.loads(capsys.readouterr().out)
    before = callout_calls(gateway)
    content = iter([b"{}"]) if "transfer-encoding" in headers else b"{}"
    connection.request(
        method, INFER, headers=headers, content=content if method == "POST" else None
    )
    called = callout_calls(gateway) > before
    assert explained["placement"] == ("callout" if called else "native")
    assert explained["placement_reason"]


def test_status_says_where_models_are_decided(
    gateway: Gateway, connection: httpx.Client, capsys: Capture
) -> None:
    gateway.edit(lambda each: each["models"]["other"].update(placement="callout"))
    url = f"http://{gateway.config['control_plane']['http']}"
    assert main(["status", "--control-plane", url]) == 0
    shown = capsys.readouterr().out
    assert "native    Envoy alone decides requests of 1 model\n" in shown
    assert "callout   1 model (other): placement: callout\n" in shown
    assert post(connection, group="staff").status_code == 200
