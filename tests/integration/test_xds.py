"""The control plane with a real Envoy: Envoy accepts every resource and applies it."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any
from uuid import UUID

import grpc
import httpx
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from protos.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from sluice.bootstrap import NodeNames, render
from sluice.config.load import load
from sluice.envoy_binary import find_envoy
from sluice.runner.process import is_free
from tests import plain_http
from tests.integration.ext_proc_server import ExtProcServer
from tests.integration.gateway import eventually, free_ports
from xds.protocol import resource_types

Config = dict[str, Any]


class Model(BaseHTTPRequestHandler):
    """Responds with its port and the request's headers."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        port = self.server.server_address[1]
        body = json.dumps({"port": port, "headers": dict(self.headers)}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        for name in ("x-sluice-reason", "X-Sluice-Other", "ratelimit", "RateLimit-Policy", "x-own"):
            self.send_header(name, "set by the model server")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def model_servers(count: int) -> Iterator[list[str]]:
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Model) for _ in range(count)]
    for server in servers:
        Thread(target=server.serve_forever, daemon=True).start()
    yield [f"127.0.0.1:{server.server_address[1]}" for server in servers]
    for server in servers:
        server.shutdown()
        server.server_close()


class Plane:
    """A control plane, an Envoy and a callout for tests, each on ports of its own."""

    def __init__(self, directory: Path, models: Config, **sections: Config) -> None:
        listener, http, xds, admin, callout = free_ports(5)
        self.url, self.admin = f"http://127.0.0.1:{listener}", f"http://127.0.0.1:{admin}"
        self.xds = f"127.0.0.1:{xds}"
        self.http = f"http://127.0.0.1:{http}"
        self.directory = directory
        self.config: Config = {
            "listener": {"address": f"127.0.0.1:{listener}", **sections.pop("listener", {})},
            "control_plane": {"http": f"127.0.0.1:{http}", "xds": self.xds},
            "callout": {"address": f"127.0.0.1:{callout}", "workers": 1},
            "envoy": {"admin": f"127.0.0.1:{admin}"},
            "limits": {"listener": None},
            **sections,
            "models": models,
        }
        self.decider = ExtProcServer(callout)
        self.processes: list[subprocess.Popen[bytes]] = []

    @property
    def file(self) -> Path:
        return self.directory / "gateway.yaml"

    def write(self) -> None:
        draft = self.directory / "draft"
        draft.write_text(yaml.safe_dump(self.config))
        draft.replace(self.file)

    def spawn(self, *argv: str) -> subprocess.Popen[bytes]:
        with (self.directory / "log").open("ab") as log:
            process = subprocess.Popen(argv, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def start_control_plane(self) -> subprocess.Popen[bytes]:
        process = self.spawn(sys.executable, "-m", "sluice.cli", "control-plane", str(self.file))
        eventually(lambda: self.responds(self.http + "/readyz"))
        return process

    def start(self, edit: Callable[[str], str] = lambda text: text) -> None:
        """Start everything. `edit` changes the text of the bootstrap."""
        self.write()
        self.decider.start()
        self.start_control_plane()
        bootstrap = self.directory / "bootstrap.yaml"
        bootstrap.write_text(edit(render(load(self.file), NodeNames("envoy-under-test"))))
        envoy = [str(find_envoy()), "--config-path", str(bootstrap), "--concurrency", "2"]
        self.spawn(*envoy, "--disable-hot-restart", "--log-level", "warning")
        eventually(lambda: bool(self.nodes()) and self.status()["in_sync"])
        eventually(lambda: self.responds(self.admin + "/ready"))

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            process.wait(60)
        self.decider.stop()

    def responds(self, url: str) -> bool:
        try:
            return plain_http.get(url).is_success
        except httpx.TransportError:
            return False

    def status(self) -> Config:
        found: Config = plain_http.get(self.http + "/v1/status").json()
        return found

    def nodes(self) -> list[Config]:
        return list(self.status()["nodes"])

    def get(self, path: str, cluster: str = "text/v1", **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return plain_http.get(self.url + path, headers={"x-test-cluster": cluster, **named})

    def edit(self, change: Callable[[Config], object]) -> None:
        """Change the config file and wait until the change is in force."""
        version = self.status()["version"]
        change(self.config)
        self.write()
        eventually(lambda: self.status()["version"] != version)

    def dump(self, kind: str) -> list[Config]:
        found: list[Config] = (
            plain_http.get(f"{self.admin}/config_dump", params={"resource": kind})
            .json()
            .get("configs", [])
        )
        return found


@contextmanager
def plane(
    directory: Path,
    models: Config,
    edit: Callable[[str], str] = lambda text: text,
    **sections: Config,
) -> Iterator[Plane]:
    started = Plane(directory, models, **sections)
    try:
        started.start(edit)
        yield started
    except BaseException:
        print((started.directory / "log").read_text()[-10_000:])
        raise
    finally:
        started.stop()


def version(*addresses: str, **more: object) -> Config:
    return {"endpoints": [{"address": address} for address in addresses], **more}


@pytest.fixture
def servers() -> Iterator[list[str]]:
    with model_servers(2) as addresses:
        yield addresses


def certificate(directory: Path) -> None:
    """Create a self-signed certificate in cert.pem, and its key in key.pem."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    when, day = datetime.now(UTC), timedelta(days=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(when - day)
        .not_valid_after(when + day)
        .sign(key, hashes.SHA256())
    )
    (directory / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (directory / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def test_envoy_accepts_the_resources_of_a_config_with_every_option(
    tmp_path: Path, servers: list[str]
) -> None:
    certificate(tmp_path)
    text = {
        "type": "text",
        "stable": "v1",
        "versions": {
            "v1": {
                "endpoints": [{"address": servers[0], "weight": 3}, {"address": "[::1]:9"}],
                "health_check": {"path": "/", "interval": "1s"},
            },
            "v2": version("localhost:9", protocol="grpc", health_check={"timeout": "100ms"}),
            "v3.1": version("localhost:9"),
        },
        "paths": ["/text", "/deep/er"],
        "websocket": True,
        "timeout": 0,
        "idle_timeout": 0,
        "retries": {
            "attempts": 2,
            "per_try_timeout": "1s",
            "retry_on": [
                "connect-failure", "refused-stream", "reset-before-request", "5xx",
                "gateway-error", "retriable-4xx", "unavailable", "resource-exhausted",
            ],
        },
        "pool": {"max_requests_per_connection": 7, "tcp_keepalive": "500ms"},
    }  # fmt: skip
    plain = {"versions": {"v1": version("127.0.0.1:9")}, "retries": {"attempts": 0}}
    plain["pool"] = {"tcp_keepalive": None}
    tls = {"certificate": "cert.pem", "private_key": "key.pem", "client_ca": "cert.pem"}
    bucket = {"rate": 1, "burst": 2}
    with plane(
        tmp_path,
        {"text": text, "gpt-4.1": plain},
        listener={"tls": tls, "trusted_hops": 1, "stream_buffer_limit": "16KiB"},
        requests={"expose_reason": True},
        limits={"listener": bucket, "models": {"text": bucket}, "model_types": {"text": bucket}},
    ) as started:
        (node,) = started.nodes()
        assert (node["id"], node["kind"]) == ("envoy-under-test", "envoy")
        # Envoy subscribes to the runtime independently of the other types, sometimes later.
        types = set(node["types"]) - {"runtime"}
        assert types == {"clusters", "endpoints", "listeners", "extensions", "routes"}
        assert {state["reason"] for state in node["types"].values()} == {None}
        clusters = {item["cluster"]["name"] for item in started.dump("dynamic_active_clusters")}
        assert clusters == {"sluice-callout", "text/v1", "text/v2", "text/v3.1", "gpt-4.1/v1"}
        log = (tmp_path / "log").read_text()
        # `xds.resources.telemetry` says why it uses this field.
        assert set(re.findall("deprecated option '([^']+)'", log)) == {REPORTS_CONFIG}


REPORTS_CONFIG = (
    "envoy.extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig.common_config"
)


def test_requests_reach_the_cluster_of_the_decision_and_no_client_can_choose_one(
    tmp_path: Path, servers: list[str]
) -> None:
    text = {"stable": "v1", "versions": {"v1": version(servers[0]), "v2": version(servers[1])}}
    with plane(tmp_path, {"text": text}) as started:
        for cluster, address in (("text/v1", servers[0]), ("text/v2", servers[1])):
            response = started.get("/v2/models/text/infer", cluster).json()
            assert response["port"] == int(address.rpartition(":")[2])
        forged = {
            "x_model_service": "text/v2",
            "x_sluice_reason": "forged",
            "x_sluice_other": "forged",
            "x_envoy_upstream_rq_timeout_ms": "1",
        }
        response = started.get("/v2/models/text/infer", "text/v1", **forged)
        assert response.json()["port"] == int(servers[0].rpartition(":")[2])
        names = {name.lower() for name in response.json()["headers"]}
        assert "x-sluice-other" not in names
        seen = started.decider.requests[-1]
        assert not any(name.startswith(("x-sluice-", "x-model-service")) for name in seen)
        assert "x-envoy-upstream-rq-timeout-ms" not in seen
        # The callout names no cluster, and the client's header has no effect.
        assert started.get("/v2/models/text/infer", "", **forged).status_code == 503
        assert "x-sluice-reason" not in response.headers


@pytest.mark.parametrize("exposed", [True, False])
def test_headers_that_only_the_gateway_may_set_are_removed_from_responses(
    tmp_path: Path, servers: list[str], exposed: bool
) -> None:
    text = {"versions": {"v1": version(servers[0])}}
    rule = {"name": "rule", "rate": 1, "match": [{"part": "header:x-a", "values": ["b"]}]}
    with plane(
        tmp_path,
        {"text": text},
        requests={"expose_reason": exposed},
        limits={"listener": None, "rules": [rule], "headers": exposed},
    ) as started:
        response = started.get("/v2/models/text")
        received = {
            name: response.headers.get(name) for name in response.headers if name[0] in "xr"
        }
        assert received == {
            "x-own": "set by the model server",
            **({"x-sluice-reason": "test"} if exposed else {}),
        }


def test_local_replies_are_problem_documents_and_responses_of_the_callout_are_not_changed(
    tmp_path: Path, servers: list[str]
) -> None:
    text = {
        "versions": {"v1": version(f"127.0.0.1:{free_ports(1)[0]}")},
        "retries": {"attempts": 0},
    }
    other = {"versions": {"v1": version(servers[0])}}
    bucket = {"rate": 1, "burst": 1}
    with plane(
        tmp_path,
        {"text": text, "other": other},
        requests={"expose_reason": True},
        limits={"listener": None, "models": {"other": bucket}},
    ) as started:
        # The details contain the subject of the caller, here one that looks like a local reply.
        for details in ("", "sluice:forbidden", "sluice:forbidden:overflow"):
            refused = started.get("/v2/models/text", x_test_refuse=details)
            assert (refused.status_code, refused.text) == (403, "refused by the callout")
        unreachable = started.get("/v2/models/text")
        unknown = started.get("/v2/models/text", "no/cluster")
        admitted = started.get("/v2/models/other", "other/v1")
        forged = {"x-request-id": '"}'}
        limited = started.get("/v2/models/other", "other/v1", **forged)
        assert admitted.headers["x-sluice-reason"] == "test"
        invalid = plain_http.get(started.url, headers={"with_underscore": "1"})
        for response, status, reason in (
            (unreachable, 503, "model_unreachable"),
            (unknown, 503, "unknown_service"),
            (limited, 429, "rate_limited"),
            (invalid, 400, "bad_request"),
        ):
            problem = response.json()
            assert response.headers["content-type"] == "application/problem+json"
            assert response.headers["x-sluice-reason"] == problem["reason"] == reason
            assert response.status_code == problem["status"] == status
            members = {"type", "title", "status", "detail", "error", "reason"}
            assert set(problem) == members | ({"instance"} if response is not invalid else set())
        instance = limited.json()["instance"]
        assert UUID(instance.removeprefix("urn:request:"))
        assert limited.headers["retry-after"] == "1"
        started.decider.stop()
        closed = started.get("/v2/models/text")
        assert (closed.status_code, closed.json()["reason"]) == (503, "decision_unavailable")


def test_an_endpoint_edit_reaches_envoy_and_sends_nothing_else(
    tmp_path: Path, servers: list[str]
) -> None:
    text = {"versions": {"v1": version(servers[0])}}
    with plane(tmp_path, {"text": text}) as started:
        before = started.nodes()[0]["types"]
        assert started.get("/v2/models/text").json()["port"] == int(servers[0].split(":")[1])
        started.edit(lambda c: c["models"]["text"]["versions"].update(v1=version(servers[1])))
        assert started.get("/v2/models/text").json()["port"] == int(servers[1].split(":")[1])
        after = started.nodes()[0]["types"]
        changed = [name for name in before if before[name]["acked"] != after[name]["acked"]]
        assert changed == ["endpoints"]


def test_a_cluster_whose_settings_change_keeps_its_endpoints(
    tmp_path: Path, servers: list[str]
) -> None:
    text = {"versions": {"v1": version(servers[0])}}
    with plane(tmp_path, {"text": text}) as started:
        started.edit(lambda c: c["models"]["text"].update(pool={"max_requests": 7}))
        eventually(lambda: started.status()["in_sync"])
        (cluster,) = [
            item["cluster"]
            for item in started.dump("dynamic_active_clusters")
            if item["cluster"]["name"] == "text/v1"
        ]
        assert cluster["circuit_breakers"]["thresholds"][0]["max_requests"] == 7
        assert started.get("/v2/models/text").status_code == 200


def separate(api_type: str) -> Callable[[str], str]:
    """Envoy gets clusters and listeners by their own services, the other types over ADS."""
    source = {
        "resource_api_version": "V3",
        "api_config_source": {
            "api_type": api_type,
            "transport_api_version": "V3",
            "grpc_services": [{"envoy_grpc": {"cluster_name": "xds_cluster"}}],
        },
    }

    def edit(text: str) -> str:
        bootstrap = yaml.safe_load(text)
        bootstrap["dynamic_resources"]["cds_config"] = source
        bootstrap["dynamic_resources"]["lds_config"] = source
        bootstrap["dynamic_resources"]["ads_config"]["api_type"] = api_type
        return yaml.safe_dump(bootstrap)

    return edit


@pytest.mark.parametrize(
    "edit",
    [lambda text: text.replace("DELTA_GRPC", "GRPC"), separate("GRPC"), separate("DELTA_GRPC")],
    ids=["sotw", "separate sotw", "separate delta"],
)
def test_envoy_may_use_every_transport(
    tmp_path: Path, servers: list[str], edit: Callable[[str], str]
) -> None:
    """Incremental ADS is that of the bootstrap, and of all other tests."""
    text = {"versions": {"v1": version(servers[0])}}
    with plane(tmp_path, {"text": text, "other": text}, edit) as started:
        started.edit(lambda c: c["models"]["text"]["versions"].update(v1=version(servers[1])))
        eventually(lambda: started.status()["in_sync"])
        assert started.get("/v2/models/text").json()["port"] == int(servers[1].split(":")[1])
        started.edit(lambda c: c["models"]["text"].update(pool={"max_requests": 7}))
        eventually(lambda: started.status()["in_sync"])
        assert started.get("/v2/models/text").json()["port"] == int(servers[1].split(":")[1])
        started.edit(lambda c: c["models"].pop("other"))
        eventually(lambda: started.status()["in_sync"])
        names = {
            each["cluster"]["name"]
            for kind in ("dynamic_active_clusters", "dynamic_warming_clusters")
            for each in started.dump(kind)
        }
        assert names == {"sluice-callout", "text/v1"}
        assert {node["kind"] for node in started.nodes()} == {"envoy"}
        assert started.status()["error"] is None


def test_an_envoy_gets_only_what_has_changed_while_the_control_plane_was_away(
    tmp_path: Path, servers: list[str]
) -> None:
    def pushes() -> dict[str, str]:
        text = plain_http.get(f"{started.http}/metrics").text
        found = re.findall(r'^sluice_xds_pushes_total{type="(\w+)"} (\S+)', text, re.MULTILINE)
        return {name: count for name, count in found if count != "0.0"}

    def in_sync() -> bool:
        nodes = started.nodes()
        return bool(nodes) and "extensions" in nodes[0]["types"] and started.status()["in_sync"]

    text = {"versions": {"v1": version(servers[0])}}
    with plane(tmp_path, {"text": text, "other": text}) as started:
        running, pool = started.processes[0], {"max_requests": 7}
        for change, expected in (
            ({}, set()),
            # The changed cluster waits for its endpoints.
            ({"text": {**text, "pool": pool}, "other": text}, {"clusters", "endpoints"}),
        ):
            running.terminate()
            running.wait()
            started.config["models"].update(change)
            started.write()
            running = started.start_control_plane()
            eventually(in_sync)
            assert pushes() == dict.fromkeys(expected, "1.0")
        assert started.dump("dynamic_warming_clusters") == []
        assert started.get("/v2/models/text").status_code == 200


def test_keys_of_the_runtime_reach_envoy_at_once(tmp_path: Path, servers: list[str]) -> None:
    def keys() -> int:
        text = plain_http.get(f"{started.admin}/stats?filter=^runtime.num_keys$").text
        return int(text.split()[-1])

    text = {"versions": {"v1": version(servers[0])}}
    with plane(tmp_path, {"text": text}) as started:
        before = keys()
        started.edit(lambda c: c["envoy"].update(runtime={"a.b": 5, "c": True}))
        eventually(lambda: keys() == before + 2)
        assert started.status()["restart_required"] == []
        started.edit(lambda c: c["envoy"].update(runtime={}))
        eventually(lambda: keys() == before)


def test_a_rejected_edit_is_shown_and_the_last_good_config_stays_in_force(
    tmp_path: Path, servers: list[str]
) -> None:
    served = {"versions": {"v1": version(servers[0])}}
    with plane(tmp_path, {"text": served}) as started:
        before = started.status()["version"]
        # Only Envoy reads the files: the control plane may run on another machine.
        started.config["listener"]["tls"] = {"certificate": "none.pem", "private_key": "none.pem"}
        started.config["allow_disruption"] = True
        started.config["models"]["new"] = served
        started.write()
        eventually(lambda: started.status()["error"] is not None)
        status = started.status()
        assert "envoy-under-test rejected listeners" in status["error"]
        assert "none.pem" in status["error"]
        assert status["version"] == before
        assert started.get("/v2/models/text").status_code == 200
        eventually(lambda: started.status()["in_sync"])
        clusters = {item["cluster"]["name"] for item in started.dump("dynamic_active_clusters")}
        assert "new/v1" not in clusters
        del started.config["listener"]["tls"]
        started.write()
        eventually(lambda: started.status()["error"] is None)
        eventually(lambda: started.get("/v2/models/new", "new/v1").status_code == 200)


def test_models_are_added_and_removed(tmp_path: Path, servers: list[str]) -> None:
    served = {"versions": {"v1": version(servers[0], health_check={"path": "/"})}}
    with plane(tmp_path, {"text": served}) as started:
        started.edit(lambda c: c["models"].update(new=served))
        assert started.get("/v2/models/new", "new/v1").status_code == 200
        started.edit(lambda c: c["models"].pop("new"))
        eventually(lambda: started.status()["in_sync"])
        assert started.get("/v2/models/new", "new/v1").status_code == 503
        assert started.get("/v2/models/text").status_code == 200


def test_traffic_continues_without_the_control_plane_and_edits_arrive_after_its_restart(
    tmp_path: Path, servers: list[str]
) -> None:
    text = {"versions": {"v1": version(servers[0])}}
    with plane(tmp_path, {"text": text}) as started:
        started.processes[0].kill()
        started.processes[0].wait()
        assert started.get("/v2/models/text").status_code == 200
        started.config["models"]["text"]["versions"]["v1"] = version(servers[1])
        started.write()
        started.start_control_plane()
        eventually(lambda: bool(started.nodes()) and started.status()["in_sync"])
        assert started.get("/v2/models/text").json()["port"] == int(servers[1].split(":")[1])


def test_a_change_that_needs_a_restart_is_reported_and_has_no_effect(
    tmp_path: Path, servers: list[str]
) -> None:
    text = {"versions": {"v1": version(servers[0])}}
    with plane(tmp_path, {"text": text}) as started:
        started.config["callout"].update(workers=2, message_timeout="3s")
        started.write()
        eventually(lambda: started.status()["restart_required"] == ["callout.workers"])
        assert started.get("/v2/models/text").status_code == 200
        assert plain_http.get(started.admin + "/clusters").text.count("sluice-callout::127") > 0


def test_no_request_fails_when_a_callout_worker_is_killed(
    tmp_path: Path, servers: list[str]
) -> None:
    text = {"versions": {"v1": version(servers[0])}}
    first, second = consecutive_ports()
    callout = {"address": f"127.0.0.1:{first}", "workers": 2}
    workers = [decider_process(first), decider_process(second)]
    try:
        with plane(tmp_path, {"text": text}, callout=callout) as started:
            statuses: list[int] = []
            done = Event()

            def client() -> None:
                with plain_http.client(base_url=started.url) as session:
                    while not done.is_set():
                        headers = {"x-test-cluster": "text/v1"}
                        response = session.get("/v2/models/text", headers=headers)
                        statuses.append(response.status_code)

            threads = [Thread(target=client) for _ in range(4)]
            for thread in threads:
                thread.start()
            eventually(lambda: len(statuses) > 100)
            workers[0].kill()
            killed = len(statuses)
            eventually(lambda: len(statuses) > killed + 300)
            done.set()
            for thread in threads:
                thread.join()
            assert set(statuses) == {200}
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def decider_process(port: int) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "tests.integration.ext_proc_server", str(port)]
    return subprocess.Popen(argv, stdin=subprocess.PIPE)


def consecutive_ports() -> tuple[int, int]:
    """Two consecutive ports that are free."""
    while True:
        (port,) = free_ports(1)
        if is_free(f"127.0.0.1:{port + 1}"):
            return port, port + 1


def test_generic_grpc_tools_can_use_health_checks_and_reflection(tmp_path: Path) -> None:
    with plane(tmp_path, {}) as started, grpc.insecure_channel(started.xds) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        response = health.Check(health_pb2.HealthCheckRequest())
        assert response.status == health_pb2.HealthCheckResponse.SERVING
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        service = "envoy.service.discovery.v3.AggregatedDiscoveryService"
        clusters = "envoy.service.cluster.v3.ClusterDiscoveryService"
        listing, *described = reflection.ServerReflectionInfo(
            iter(
                [
                    reflection_pb2.ServerReflectionRequest(list_services=""),
                    reflection_pb2.ServerReflectionRequest(file_containing_symbol=service),
                    reflection_pb2.ServerReflectionRequest(file_containing_symbol=clusters),
                ]
            )
        )
        names = {service.name for service in listing.list_services_response.service}
        assert {service, clusters, "grpc.health.v1.Health"} <= names
        assert all(each.file_descriptor_response.file_descriptor_proto for each in described)
        response = health.Check(health_pb2.HealthCheckRequest(service=clusters))
        assert response.status == health_pb2.HealthCheckResponse.SERVING
        stream = channel.stream_stream(
            f"/{service}/StreamAggregatedResources",
            request_serializer=DiscoveryRequest.SerializeToString,
            response_deserializer=DiscoveryResponse.FromString,
        )
        call = stream(iter([DiscoveryRequest(type_url=resource_types.POLICY.url)]))
        response = next(call)
        assert response.resources[0].type_url == resource_types.POLICY.url
        call.cancel()


def test_the_control_plane_does_not_start_with_an_invalid_config(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("modles: {}")
    done = subprocess.run(
        [sys.executable, "-m", "sluice.cli", "control-plane", str(file)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 2
    assert "gateway.yaml:1: modles: unknown key; did you mean models?" in done.stderr
