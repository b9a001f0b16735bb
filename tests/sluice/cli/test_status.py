"""`sluice status` shows the status of the control plane, and of the callout if it responds."""

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from extproc.breaker.news import RING
from extproc.counter_table import CounterTable, create
from extproc.policy.compiled import compile_policy
from extproc.policy.current import CurrentPolicy
from extproc.process.breaker_gauges import BreakerGauges
from extproc.process.metrics import key_set_gauges
from extproc.protection import Protection, ProtectionSettings
from extproc.telemetry import catalog, endpoint
from extproc.telemetry.exposition import TableCollector
from extproc.telemetry.metrics import Metrics
from extproc.telemetry.profile import Profiler
from extproc.telemetry.publisher import MetricsPublisher
from extproc.telemetry.status import WorkerStatus, read_status
from sluice.cli import main
from sluice.cli.endpoints import MAX_ROWS
from sluice.cli.gateway import address_near
from sluice.cli.output import plain
from sluice.cli.status import view
from sluice.cli.streams import stream_blocks
from sluice.config import GatewayConfig
from sluice.contract.traffic import latency_bin
from sluice.http.client import Status, fetch_status
from sluice.http.server import serve_in_thread
from sluice.keys.key_set import KeySet
from sluice.version import USER_AGENT
from tests.extproc.auth.tokens import issuer
from tests.extproc.decision.requests import document
from tests.extproc.policy.received import protect
from tests.integration.raw_server import raw_server
from xds.admin.access import admin_guard
from xds.admin.app import application
from xds.admin.metrics import StateCollector
from xds.admin.status import status_of
from xds.admin.views import Views
from xds.envoys.observations import Observations
from xds.envoys.reporters import BreakerState, BreakerView, Counts
from xds.protocol.nodes import Nodes
from xds.protocol.snapshot import EMPTY
from xds.resources.compiled import CompiledConfig
from xds.rollout.rollout import Rollout
from xds.state import ControlPlaneState

ANY_PORT = "127.0.0.1:0"
UNUSED = "127.0.0.1:1"
WORKERS = (
    WorkerStatus(0, "running", 11, 0.25),
    WorkerStatus(1, "silent", 12, 3.5),
    WorkerStatus(2, "down", None, None),
)


@pytest.fixture
def table(tmp_path: Path) -> Iterator[CounterTable]:
    """A counter table with room for one breaker. The model has three versions."""
    create(tmp_path / "counters", 1, RING + 136)
    table = CounterTable(tmp_path / "counters", 0)
    yield table
    table.close()


@pytest.fixture
def callout(table: CounterTable) -> Iterator[str]:
    """The address of a callout. Of its one protected version, 3 of 4 requests fail."""
    protection = Protection(table, ProtectionSettings())
    asyncio.run(protect(protection, document({"m": {}})))
    protection.breaker.record(time.monotonic(), "m/v1", ok=False, count=30)
    protection.breaker.record(time.monotonic(), "m/v1", ok=True, count=10)
    metrics = Metrics(table)
    publisher = MetricsPublisher(metrics)
    publisher.add(BreakerGauges(metrics, protection).publish)
    publisher.publish()
    collector = TableCollector(table, catalog.FAMILIES)
    app = endpoint.application(
        endpoint.EndpointSettings(ANY_PORT),
        collector,
        partial(read_status, table, WORKERS),
        Profiler(lambda _: None),
        lambda: True,
    )
    with serve_in_thread(app, ANY_PORT, max_requests=20) as address:
        yield address


def control_plane(
    callout: str, observations: Observations | None = None, versions: int = 1
) -> ControlPlaneState:
    """The state of a control plane. Its config has this address of the callout."""
    listed = {f"v{n}": {"endpoints": [{"address": "a:1"}]} for n in range(1, versions + 1)}
    config = GatewayConfig.model_validate(
        {
            "telemetry": {"metrics": {"address": callout}},
            "models": {"m": {"versions": listed, "stable": "v1"}},
        }
    )
    nodes = Nodes(time.time)
    return ControlPlaneState(
        "gateway.yaml", CompiledConfig(config, EMPTY), nodes, Rollout(nodes, 1.0), observations
    )


def seen(
    counts: Mapping[str, Counts] | None = None, unprotected: int = 0, **breakers: BreakerView
) -> Observations:
    """What a worker has reported just now. `breakers` are those of the versions of `m`."""
    observations, now = Observations(), time.monotonic()
    observations.configure({f"m/v{n}" for n in range(1, 400)})
    views = {f"m/{version}": view for version, view in breakers.items()}
    worker = observations.join("worker", "callout-0", now - 10)
    worker.report(now - 6, counts or {})
    worker.report(now, {}, breakers=views, unprotected=unprotected)
    return observations


OPEN = BreakerView(BreakerState.OPEN, 0.75, 40)


def describe(status: Status) -> str:
    """The status as plain text."""
    return "\n".join(plain(view(status)))


def served(state: ControlPlaneState) -> Starlette:
    """The admin application of a control plane in this state."""
    guard = admin_guard(state.config, lambda: state.config, Path())
    return application(Views(state).operations(), guard, StateCollector(state))


def status(state: ControlPlaneState, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The output of the command for a control plane in this state."""
    with serve_in_thread(served(state), ANY_PORT, max_requests=20) as address:
        assert main(["status", "--url", f"http://{address}", *arguments]) == 0
    return capsys.readouterr().out


def test_every_breaker_is_shown(callout: str, capsys: pytest.CaptureFixture[str]) -> None:
    state = control_plane(callout, seen(unprotected=2, v1=OPEN), versions=63)
    shown = status(state, capsys).splitlines()
    start = shown.index("breakers  60 closed, 1 open")
    assert shown[start + 1].split() == ["MODEL/VERSION", "BREAKER", "ERRORS", "REQUESTS"]
    assert shown[start + 2].split() == ["m/v1", "open", "75.0%", "40"]
    assert shown[start + 3] == "breakers  2 versions have no breaker: the shared table is full"


def test_the_traffic_of_the_last_minute_is_shown() -> None:
    latencies = {latency_bin(2000): 39, latency_bin(1_500_000): 1}
    counts = {f"m/v{n}": Counts(40, 1 if n == 1 else 0, latencies) for n in range(1, 13)}
    observations = seen(counts)
    state = control_plane(UNUSED, observations, versions=12)
    shown = described(traffic=status_of(state).model_dump()["traffic"])
    start = shown.index("traffic   in the last minute")
    assert shown[start + 1].split() == ["MODEL/VERSION", "REQUESTS", "ERRORS", "P50", "P99"]
    first = shown[start + 2].split()
    assert first[:3] == ["m/v1", "40", "2.5%"]
    assert [first[4], first[6]] == ["ms", "s"]
    assert len([line for line in shown[start:] if line.startswith("m/")]) == 10
    assert "and 2 more: see --json" in shown


def test_traffic_that_is_known_only_in_part_is_marked() -> None:
    observations = seen({"m/v1": Counts(40, 0)})
    observations.join("worker", "callout-1", time.monotonic())
    state = control_plane(UNUSED, observations)
    shown = described(traffic=status_of(state).model_dump()["traffic"])
    assert any("incomplete: some Envoys or workers have not reported lately" in s for s in shown)


def test_every_worker_is_shown(callout: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line.split() for line in status(control_plane(callout), capsys).splitlines()]
    start = lines.index(["WORKER", "STATE", "SILENCE", "PID"])
    assert lines[start + 1 : start + 4] == [
        ["0", "running", "0.2", "s", "11"],
        ["1", "silent", "3.5", "s", "12"],
        ["2", "down", "-", "-"],
    ]


def test_the_json_status_has_the_breakers_and_the_workers(
    callout: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = json.loads(status(control_plane(callout, seen(v1=OPEN)), capsys, "--json"))
    breaker = {"model": "m", "version": "v1", "state": "open", "error_rate": 0.75, "requests": 40}
    assert found["breakers"] == {
        "known": True, "closed": 0, "not_closed": [breaker], "unprotected": 0,
    }  # fmt: skip
    assert found["callout"] == {
        "url": f"http://{callout}", "error": None, "workers": [asdict(w) for w in WORKERS],
        "key_sets": [],
    }  # fmt: skip


def test_requests_of_the_command_line_name_the_product() -> None:
    def respond(request: Request) -> Response:
        return JSONResponse({"agent": request.headers["user-agent"]})

    app = Starlette(routes=[Route("/v1/status", respond)])
    with serve_in_thread(app, ANY_PORT, max_requests=20) as address:
        assert fetch_status(f"http://{address}", "agent") == {"agent": USER_AGENT}


def test_every_key_set_is_shown_with_its_age_and_the_failure_of_its_fetch(tmp_path: Path) -> None:
    create(tmp_path / "wide", 1, 500)
    table = CounterTable(tmp_path / "wide", 0)
    names = ["https://a.test", "https://b.test", "https://c.test"]
    issuers = [issuer(issuer=name, jwks_uri=f"{name}/keys") for name in names]
    current_policy = CurrentPolicy()
    policy = compile_policy(document(auth={"issuers": issuers}))
    current_policy.current = policy
    for name in names[:2]:
        policy.authenticator.replace_keys(name, KeySet(()), time.monotonic() - 90)
    policy.authenticator.expire_keys(names[1])
    policy.authenticator.record_failure(names[2], "status_403")
    publisher = MetricsPublisher(Metrics(table))
    publisher.add_gauges(partial(key_set_gauges, current_policy))
    publisher.publish()
    shown = [(each.issuer, each.usable, each.age) for each in read_status(table).key_sets]
    assert [(name, usable) for name, usable, _ in shown] == list(zip(names, [1, 0, 0], strict=True))
    ages = [age for _, _, age in shown]
    assert ages[2] is None
    assert all(age is not None and 90 <= age < 900 for age in ages[:2])
    callout = {"url": None, "error": None, **asdict(read_status(table))}
    table.close()
    text = describe({**status_of(control_plane(UNUSED)).model_dump(), "callout": callout})
    lines = [line.split() for line in text.splitlines()]
    rows = {line[0]: line[1:] for line in lines if line and line[0].startswith("https://")}
    assert ["ISSUER", "KEY", "SET", "AGE", "LATEST", "FETCH"] in lines
    assert [rows[names[0]][0], rows[names[0]][-1]] == ["usable", "ok"]
    assert [rows[names[1]][0], rows[names[1]][-1]] == ["expired", "ok"]
    assert rows[names[2]] == ["missing", "-", "failed:", "status_403"]
    assert text.count("its tokens are refused until the key set has been fetched") == 2


def test_a_node_is_shown_with_its_version_and_the_types_that_are_not_in_sync() -> None:
    state = control_plane(UNUSED)
    accepted = {"in_sync": True, "acked": "v1", "nacked": None, "reason": None}
    node = {
        "id": "envoy-1",
        "kind": "envoy",
        "pid": None,
        "connected_at": 0.0,
        "version": "v1",
        "types": {
            "clusters": accepted,
            "endpoints": {**accepted, "in_sync": False},
            "listeners": {**accepted, "in_sync": False, "nacked": "v2", "reason": "no such file"},
        },
    }
    callout = {"url": None, "error": None, "workers": [], "key_sets": []}
    shown = describe({**status_of(state).model_dump(), "nodes": [node], "callout": callout})
    _, header, first, *differing = [line.split() for line in shown.splitlines()[2:7]]
    assert header == ["NODE", "KIND", "SINCE", "ANSWERED", "VERSION"]
    assert (first[:2], first[-1]) == (["envoy-1", "envoy"], "v1")
    assert [" ".join(words) for words in differing] == [
        "endpoints: not in sync, accepted v1",
        "listeners: rejected v2: no such file",
    ]


def test_a_stage_is_shown_with_its_envoys_and_the_time_that_is_left() -> None:
    nodes = [f"e{number}" for number in range(7)]
    stage = {"version": "v3", "revision": 7, "remaining": 41.7, "nodes": nodes}
    shown = "\n".join(described(stage=stage))
    assert "v3, revision 7, staged at 7 Envoys: e0, e1, e2, e3, e4 and 2 more" in shown
    assert "the other Envoys follow in 42 s, unless these are worse" in shown


def test_a_version_that_no_node_follows_is_not_shown_as_in_sync() -> None:
    shown = described(version="v2", in_sync=True, xds="127.0.0.1:2", nodes=[])
    assert shown[0] == "version   v2 (no node is connected)"
    (line,) = (line for line in shown if line.startswith("nodes"))
    assert line.startswith("nodes     none: no Envoy and no worker is connected to the xDS server")
    assert "127.0.0.1:2" in line


def seen_endpoint(
    state: str = "healthy", why: str = "", cluster: str = "m/v1"
) -> dict[str, object]:
    return {"cluster": cluster, "address": "a:1", "state": state, "why": why, "since": time.time()}


def envoy(*endpoints: dict[str, object], **fields: object) -> dict[str, object]:
    """What an Envoy sees, as in the status of the control plane."""
    seen = {"source": "e:9901", "node": "envoy-1", "error": None, "answered_at": 0.0, "age": 0.5}
    return {**seen, "endpoints": list(endpoints), **fields}


def described(*envoys: dict[str, object], **fields: object) -> list[str]:
    """The lines of the status with these Envoys, without a callout."""
    callout = {"url": "http://c", "error": "refused"}
    status = status_of(control_plane(UNUSED)).model_dump()
    return describe({**status, "envoys": list(envoys), "callout": callout, **fields}).splitlines()


def test_endpoints_that_are_not_healthy_are_shown_with_the_cause() -> None:
    many = [seen_endpoint() for _ in range(200)]
    worker = seen_endpoint("ejected", "ejected after failures in a row", "sluice-callout")
    shown = described(envoy(*many, seen_endpoint("unhealthy", "its health check fails"), worker))
    start = next(index for index, line in enumerate(shown) if line.startswith("endpoints"))
    assert shown[start] == "endpoints 200 healthy, 1 unhealthy (node envoy-1, 0.5 s ago)"
    assert shown[start + 1].split() == ["ENDPOINT", "OF", "STATE", "SINCE", "WHY"]
    rows = [line.split(maxsplit=4) for line in shown[start + 2 : start + 4]]
    assert [(row[:3], row[4]) for row in rows] == [
        (["a:1", "m/v1", "unhealthy"], "its health check fails"),
        (["a:1", "sluice-callout", "ejected"], "ejected after failures in a row"),
    ]
    assert shown[start + 4] == ""


def test_the_number_of_printed_endpoints_is_bounded() -> None:
    shown = described(envoy(*[seen_endpoint("unhealthy") for _ in range(MAX_ROWS + 7)]))
    assert "and 7 more: see --json" in shown
    assert sum(line.startswith("a:1") for line in shown) == MAX_ROWS


def test_an_envoy_that_does_not_answer_is_shown_with_what_it_saw_last() -> None:
    shown = described(envoy(seen_endpoint("unhealthy"), error="timed out", age=12.0))
    assert "endpoints not known now: Envoy at e:9901: timed out" in shown
    assert "endpoints 1 unhealthy (node envoy-1, 12.0 s ago)" in shown


def test_without_an_answer_of_an_envoy_the_endpoints_are_not_known() -> None:
    assert "endpoints not known: the control plane has asked no Envoy" in described()
    unseen = envoy(node=None, age=None, answered_at=None, error="refused")
    shown = described(unseen)
    assert "endpoints not known now: Envoy at e:9901: refused" in shown
    assert not any("healthy" in line for line in shown)


def test_each_node_is_shown_with_its_latest_answer(callout: str) -> None:
    nodes = [
        {"id": name, "kind": kind, "pid": pid, "connected_at": 0.0, "version": "v1", "types": {}}
        for name, kind, pid in (
            ("c-0", "callout", 11),
            ("c-9", "callout", 99),
            ("envoy-1", "envoy", None),
        )
    ]
    callout_status = {**fetch_status(f"http://{callout}", "workers"), "url": "", "error": None}
    shown = described(envoy(age=7.25), nodes=nodes, callout=callout_status)
    answered = {line.split()[0]: " ".join(line.split()[3:-1]) for line in shown if " v1" in line}
    assert answered == {"c-0": "0.2 s ago", "c-9": "-", "envoy-1": "7.2 s ago"}


def test_control_sequences_of_terminals_are_not_printed() -> None:
    status = status_of(control_plane(UNUSED)).model_dump()
    callout = {"url": "http://127.0.0.1:9902", "error": "\x1b[2J"}
    node = {
        "id": "a\x1b]0;x\x07", "kind": "envoy", "pid": None, "connected_at": 0.0,
        "version": "v1\r", "types": {},
    }  # fmt: skip
    hostile = {"nodes": [node], "error": "one\ntwo\x9b", "callout": callout}
    shown = describe({**status, **hostile})
    assert all(line.isprintable() for line in shown.split("\n"))
    assert "\\x1b]0;x\\x07" in shown


def test_the_url_of_the_callout_can_be_set(
    callout: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = status(control_plane(UNUSED), capsys, "--callout", f"http://{callout}")
    assert "running" in shown


def test_breakers_are_unknown_before_a_worker_reports() -> None:
    assert "breakers  unknown: no worker has reported lately" in described()


def test_without_a_callout_only_its_workers_are_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    state = control_plane(UNUSED, seen(v1=OPEN))
    shown = status(state, capsys)
    assert "breakers  1 open" in shown
    assert f"callout   unknown: no answer from the callout at http://{UNUSED}: " in shown
    assert "refused" in shown
    found = json.loads(status(state, capsys, "--json"))["callout"]
    assert "refused" in found["error"]
    assert found["workers"] == []


def test_a_response_that_is_not_a_callout_status_is_an_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with serve_in_thread(served(control_plane(UNUSED)), ANY_PORT, max_requests=20) as other:
        shown = status(control_plane(other), capsys)
    assert (
        f"the callout at http://{other} answered, but the response is not a status; check" in shown
    )


def test_a_status_with_other_fields_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    async def other(_: Request) -> Response:
        return JSONResponse({"version": "v1", "settled": True, "late": []})

    app = Starlette(routes=[Route("/v1/status", other)])
    with serve_in_thread(app, ANY_PORT, max_requests=20) as address:
        assert main(["status", "--url", f"http://{address}"]) == 1
    assert "the response is not a status" in capsys.readouterr().err


def test_the_status_of_an_older_callout_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    async def older(_: Request) -> Response:
        return JSONResponse({"breakers": [], "unprotected": 0})

    app = Starlette(routes=[Route("/v1/status", older)])
    with serve_in_thread(app, ANY_PORT, max_requests=20) as address:
        shown = status(control_plane(address), capsys)
    assert f"the callout at http://{address} answered, but the response is not a status" in shown


def test_a_response_that_is_not_a_control_plane_status_is_an_error(
    callout: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "--url", f"http://{callout}"]) == 1
    assert "the response is not a status; check the URL" in capsys.readouterr().err


def test_the_error_for_an_unknown_host_name_shows_the_remedy(
    callout: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # The name 127.1 resolves to loopback, but is no IP address to the Host check.
    by_name = callout.replace("127.0.0.1", "127.1")
    shown = status(control_plane(UNUSED), capsys, "--callout", f"http://{by_name}")
    assert "421: Unknown host." in shown
    assert "telemetry.metrics.allowed_hosts" in shown


def test_an_error_body_with_terminal_control_sequences_is_not_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def respond(_: Request) -> Response:
        return Response(b"\x1b]0;owned\x07", 404)

    app = Starlette(routes=[Route("/v1/status", respond)])
    with serve_in_thread(app, ANY_PORT, max_requests=20) as address:
        assert main(["status", "--url", f"http://{address}"]) == 1
    assert capsys.readouterr().err.endswith(" answered 404: Not Found\n")


@pytest.mark.parametrize("command", [["status", "--url"], ["explain", "/x", "--control-plane"]])
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 500 \x1b[2J\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\x1b[2J\r\ncontent-length: 2\r\n\r\n{}",
        b"\x1b[2J\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx\x1b[2J: y\r\ncontent-length: \x1b[2J\r\n\r\n",
        b'HTTP/1.1 200 OK\r\n\r\n{"in_sync": 1, "worker_addresses": ["\\u001b[2J"], '
        b'"callout": "\\u001b[2J", "xds": "\\u001b[2J"}',
    ],
)
def test_an_error_shows_no_control_sequence_of_the_server(
    command: list[str], answer: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    with raw_server() as server:
        server.serve(lambda exchange: (exchange.send(answer), None)[1])
        assert main([*command, f"http://{server.address}"]) == 1
    error = capsys.readouterr().err
    assert error.endswith("\n")
    assert error[:-1].isprintable()


@pytest.mark.parametrize("value", [None, 1, "a", [1], {}, [{}], [None]])
def test_a_status_whose_members_have_other_types_is_an_error(
    value: object, capsys: pytest.CaptureFixture[str]
) -> None:
    members = [
        "in_sync", "version", "config", "error", "unresponsive", "restart_required", "nodes",
        "envoys", "callout", "worker_addresses", "xds", "listener", "workers",
    ]  # fmt: skip

    async def other(_: Request) -> Response:
        return JSONResponse(dict.fromkeys(members, value))

    app = Starlette(routes=[Route("/v1/status", other)])
    with serve_in_thread(app, ANY_PORT, max_requests=20) as address:
        for command in (["status", "--url"], ["explain", "/x", "--control-plane"]):
            assert main([*command, f"http://{address}"]) == 1
            answered = f"sluice {command[0]}: the control plane at http://{address} "
            assert capsys.readouterr().err.startswith((answered, "sluice explain: no policy from"))


def test_a_response_that_is_nested_deeply_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    app = Starlette(routes=[Route("/v1/status", lambda _: Response(b"[" * 100_000))])
    with serve_in_thread(app, ANY_PORT, max_requests=20) as address:
        assert main(["status", "--url", f"http://{address}"]) == 1
    assert "the response is not a status; check the URL" in capsys.readouterr().err


def test_a_response_without_json_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    async def respond(_: Request) -> Response:
        return Response("ok")

    app = Starlette(routes=[Route("/v1/status", respond)])
    with serve_in_thread(app, ANY_PORT, max_requests=20) as address:
        assert main(["status", "--url", f"http://{address}"]) == 1
    assert "the response is not a status; check the URL" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("control_plane", "address", "url"),
    [
        ("http://127.0.0.1:8081", "127.0.0.1:9902", "http://127.0.0.1:9902"),
        ("http://localhost:8081/", "0.0.0.0:9902", "http://localhost:9902"),
        ("https://gateway.internal", "127.0.0.1:9902", "http://gateway.internal:9902"),
        ("http://[fd00::1]:8081", "[::]:9902", "http://[fd00::1]:9902"),
        ("http://gateway.internal:8081", "10.0.0.7:9902", "http://10.0.0.7:9902"),
        ("http://gateway.internal:8081", "callout.internal:9902", "http://callout.internal:9902"),
    ],
)
def test_a_loopback_address_belongs_to_the_host_of_the_control_plane(
    control_plane: str, address: str, url: str
) -> None:
    assert f"http://{address_near(control_plane, address)}" == url


def stream(name: str, **fields: object) -> Status:
    counts = {"drops": {"overload": 2, "sink": 1}, "errors": {"refused": 4}}
    return {
        "name": name, "model": "digits", "worker": "w", "upload": False, "state": "running",
        "seconds": 1.0, "error": "", "frames_per_second": 29.97, "results_per_second": 5.0,
        "p50": 12.4, "p99": 140.2, "counts": counts, "sinks": [], **fields,
    }  # fmt: skip


def test_streams_of_cameras_are_shown_with_what_is_wrong_with_them() -> None:
    sink = {"name": "0-redis", "delivered": 1, "waiting": 9, "error": "unreachable"}
    failing = stream("gate", state="waiting", error="the camera does not respond", sinks=[sink])
    uploaded = stream("upload-1", upload=True, p50=0.0, p99=0.0)
    lines = list(plain(stream_blocks([uploaded, stream("door"), failing])))
    assert lines[1].split() == ["videos", "as", "the", "video", "service", "reports", "them"]
    shown = [" ".join(line.split()) for line in lines[3:]]
    assert shown == [
        "gate digits waiting 30.0 5.0 12 ms 140 ms 3 4",
        "the camera does not respond",
        "sink 0-redis, for which 9 events wait: unreachable",
        "door digits running 30.0 5.0 12 ms 140 ms 3 4",
        "upload-1 (upload) digits running 30.0 5.0 - - 3 4",
    ]
    many = list(plain(stream_blocks([stream(f"s{n}") for n in range(25)])))
    assert many[-1] == "and 5 more: see sluice get videos"
    assert list(stream_blocks([])) == []
