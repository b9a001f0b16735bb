"""Counts the instructions that Envoy executes for a request, with valgrind.

The counts are those of user space. Unlike CPU time, they hardly depend on other load on the
machine. Each variant is an Envoy that forwards a POST of 512 bytes. `plain` has neither reports nor
the upstream filters of the gateway. Two runs with different numbers of requests are compared, so
that the start of Envoy does not count.
"""

import argparse
import http.client
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from bench.envoy_config import cluster, upstream_config
from bench.processes import ENVOY, accepts, envoy, free_port, local_address, serving
from sluice.config import GatewayConfig
from sluice.config.telemetry import Telemetry
from sluice.contract import headers
from sluice.contract.names import CALLOUT_CLUSTER, native_route_name
from xds.resources.filters import UPSTREAM_FILTERS
from xds.resources.listener_settings import ListenerSettings
from xds.resources.telemetry import access_logs

MODEL_CLUSTER = "bench/v1"
BODY = bytes(512)
WARM_UP = 200
_API = "type.googleapis.com/envoy.extensions.filters"
_SET = {
    headers.MODEL_SERVICE: MODEL_CLUSTER,
    headers.MODEL_VERSION: "v1",
    headers.MODEL: "bench",
    headers.REASON: "stable",
    headers.SUBJECT: "alice@example.com",
}
"""Headers that a native route sets."""

_OVERWRITE = "OVERWRITE_IF_EXISTS_OR_ADD"

Config = dict[str, object]


def reports() -> list[Config]:
    """The access log of the gateway. A batch is sent when it is full, as under load."""
    settings = Telemetry.model_validate({"reports": {"flush_interval": 60}})
    return [_extension(log.name, log.typed_config) for log in access_logs(settings)]


def upstream_filters() -> list[Config]:
    """The gateway's filters between router and model server."""
    built = (builder(ListenerSettings.of(GatewayConfig())) for builder in UPSTREAM_FILTERS)
    return [_extension(item.name, item.typed_config) for item in built]


def _extension(name: str, packed: object) -> Config:
    message = packed.unpack()  # type: ignore[attr-defined]
    return {"name": name, "typed_config": {"@type": packed.type_url, **message.to_dict()}}  # type: ignore[attr-defined]


VARIANTS = {
    "plain": (False, False),
    "reports": (True, False),
    "upstream filters": (False, True),
    "both": (True, True),
}
"""Whether Envoy reports requests, and whether it has the upstream filters."""


def config(variant: str, port: int, model_server: str, callout: str) -> Config:
    """The config of one Envoy."""
    reported, filtered = VARIANTS[variant]
    router: Config = {"@type": f"{_API}.http.router.v3.Router", "suppress_envoy_headers": True}
    if filtered:
        router["upstream_http_filters"] = upstream_filters()
    route = {
        "name": native_route_name("bench"),
        "match": {"prefix": "/"},
        "route": {"cluster": MODEL_CLUSTER},
        "request_headers_to_add": [
            {"header": {"key": name, "value": value}, "append_action": _OVERWRITE}
            for name, value in _SET.items()
        ],
    }
    manager = {
        "@type": f"{_API}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "access_log": reports() if reported else [],
        "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "router", "typed_config": router}],
    }
    listener = {
        "name": "bench",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    clusters = [cluster(MODEL_CLUSTER, model_server), cluster(CALLOUT_CLUSTER, callout, http2=True)]
    return {"static_resources": {"listeners": [listener], "clusters": clusters}}


def count(envoy_config: Config, port: int, requests: int, directory: Path) -> int:
    """Run an Envoy, send requests one by one, and return the instructions of its whole life."""
    file, log = directory / "envoy.json", directory / "valgrind.log"
    file.write_text(json.dumps(envoy_config))
    tool = ["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    argv = ["valgrind", *tool, str(ENVOY), "-c", str(file), "--concurrency", "1"]
    argv += ["--disable-hot-restart", "--log-level", "error"]
    with log.open("w") as output, subprocess.Popen(argv, stdout=output, stderr=output) as process:
        try:
            while not accepts(local_address(port)):
                if process.poll() is not None:
                    raise RuntimeError(log.read_text())
                time.sleep(0.1)
            send(port, requests)
        finally:
            process.send_signal(signal.SIGTERM)
    match = re.search(r"I\s+refs:\s+([\d,]+)", log.read_text())
    assert match is not None, log.read_text()
    return int(match[1].replace(",", ""))


def send(port: int, requests: int) -> None:
    """Send requests on one connection. Raises RuntimeError if one fails."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    sent = {"content-type": "application/json", "user-agent": "bench", "accept": "*/*"}
    for _ in range(requests):
        connection.request("POST", "/v2/models/bench/infer", BODY, sent)
        response = connection.getresponse()
        response.read()
        if response.status != 200:
            raise RuntimeError(f"status {response.status}")


def main() -> None:
    """Print the instructions per request of each variant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--variants", default=",".join(VARIANTS), help="separated by commas")
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        sys.exit("bench: valgrind is not on PATH")
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as name, ExitStack() as stack:
        directory, port = Path(name), free_port()
        message, sink = directory / "response", local_address(free_port())
        message.write_bytes(b"")
        argv = [sys.executable, "-m", "bench.grpc_sink", sink, str(message)]
        stack.enter_context(serving(argv, sink))
        stack.enter_context(envoy(upstream_config(port), directory / "upstream.json", [port]))
        baseline = 0.0
        for variant in options.variants.split(","):
            runs = []
            for requests in (WARM_UP, WARM_UP + options.requests):
                own = free_port()
                built = config(variant, own, local_address(port), sink)
                runs.append(count(built, own, requests, directory))
            each = (runs[1] - runs[0]) / options.requests
            baseline = baseline or each
            print(f"{variant:<20}{each:>10.0f}{each / baseline - 1:>+8.1%}", flush=True)


if __name__ == "__main__":
    main()
