"""An Envoy with the `ratelimit` filter only, which calls a rate limit service.

The upstream is a second listener of the same Envoy that always responds 200, so every other status
comes from the filter. The limited routes cannot use a direct response: the filter ignores those.
"""

import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from sluice.envoy_binary import find_envoy
from tests import plain_http
from tests.integration.gateway import eventually, free_ports

DOMAIN = "mesh"
FILTER = "envoy.filters.http.ratelimit"

Node = dict[str, Any]

_TYPE = "type.googleapis.com/envoy.extensions"


def _header(name: str, key: str) -> Node:
    return {"request_headers": {"header_name": name, "descriptor_key": key}}


def _rates() -> list[Node]:
    """Rate limit actions. Envoy sends a descriptor only if the request has all of its headers.

    `charged` costs the number in `x-hits`. `checked` costs nothing when the request arrives, and
    the number in `x-hits` when its response is complete.
    """
    single = ("subject", "path", "trial", "special", "quota-a", "quota-b")
    addend = {"format": "%REQ(X-HITS)%"}
    checked = [_header("x-checked", "checked")]
    return [
        *({"actions": [_header(f"x-{key}", key.replace("-", "_"))]} for key in single),
        {"actions": [_header("x-user", "user"), _header("x-model", "model")]},
        {"actions": [_header("x-charged", "charged")], "hits_addend": addend},
        {"actions": checked, "hits_addend": {"number": 0}},
        {"actions": checked, "hits_addend": addend, "apply_on_stream_done": True},
    ]


def _filter(*, failure_mode_deny: bool) -> Node:
    return {
        "name": FILTER,
        "typed_config": {
            "@type": f"{_TYPE}.filters.http.ratelimit.v3.RateLimit",
            "domain": DOMAIN,
            "timeout": "2s",
            "failure_mode_deny": failure_mode_deny,
            "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
            "rate_limit_service": {
                "transport_api_version": "V3",
                "grpc_service": {"envoy_grpc": {"cluster_name": "service"}},
            },
        },
    }


def _limited(port: int, name: str, *, failure_mode_deny: bool) -> Node:
    # The `rate_limits` of a virtual host do not support hits_addend.
    rates = {
        "@type": f"{_TYPE}.filters.http.ratelimit.v3.RateLimitPerRoute",
        "rate_limits": _rates(),
    }
    host = {
        "routes": [{"route": {"cluster": "upstream"}}],
        "typed_per_filter_config": {FILTER: rates},
    }
    return _listener(port, name, host, [_filter(failure_mode_deny=failure_mode_deny)])


def _upstream(port: int) -> Node:
    route = {"direct_response": {"status": 200, "body": {"inline_string": "passed"}}}
    return _listener(port, "upstream", {"routes": [route]}, [])


def _listener(port: int, name: str, host: Node, filters: list[Node]) -> Node:
    routes = [{"match": {"prefix": "/"}, **route} for route in host["routes"]]
    virtual_host = {"name": "all", "domains": ["*"], **host, "routes": routes}
    connections = {
        "@type": f"{_TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "route_config": {"virtual_hosts": [virtual_host]},
        "http_filters": [
            *filters,
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPE}.filters.http.router.v3.Router"},
            },
        ],
    }
    manager = {"name": "http", "typed_config": connections}
    return {
        "name": name,
        "address": _address(f"127.0.0.1:{port}"),
        "filter_chains": [{"filters": [manager]}],
    }


def _address(address: str) -> Node:
    if address.startswith("unix:"):
        return {"pipe": {"path": address.removeprefix("unix:")}}
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


def _cluster(name: str, addresses: Sequence[str], protocol: str) -> Node:
    endpoints = [{"endpoint": {"address": _address(each)}} for each in addresses]
    return {
        "name": name,
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPE}.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {protocol: {}},
            }
        },
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    }


@contextmanager
def running_envoy(services: Sequence[str]) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Runs Envoy with rate limit services at these addresses; gives a client of each listener.

    While no service is available, the first listener admits requests and the second refuses them.
    """
    lenient, strict, upstream = free_ports(3)
    config = {
        "static_resources": {
            "listeners": [
                _limited(lenient, "lenient", failure_mode_deny=False),
                _limited(strict, "strict", failure_mode_deny=True),
                _upstream(upstream),
            ],
            "clusters": [
                _cluster("service", services, "http2_protocol_options"),
                _cluster("upstream", [f"127.0.0.1:{upstream}"], "http_protocol_options"),
            ],
        }
    }
    with tempfile.TemporaryDirectory(prefix="sluice-envoy-") as directory:
        file, log = Path(directory, "envoy.json"), Path(directory, "log")
        file.write_text(json.dumps(config))
        argv = [str(find_envoy()), "--config-path", str(file), "--concurrency", "1"]
        with (
            log.open("wb") as output,
            subprocess.Popen(
                [*argv, "--disable-hot-restart", "--log-level", "warning"],
                stdout=output,
                stderr=output,
            ) as process,
            plain_http.client(base_url=f"http://127.0.0.1:{lenient}") as lenient_client,
            plain_http.client(base_url=f"http://127.0.0.1:{strict}") as strict_client,
        ):
            try:
                eventually(lambda: _responds(lenient_client))
                yield lenient_client, strict_client
            except BaseException:
                print(log.read_text())
                raise
            finally:
                process.terminate()


def _responds(client: httpx.Client) -> bool:
    try:
        return client.get("/").is_success
    except httpx.TransportError:
        return False
