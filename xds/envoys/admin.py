"""Asks the admin interface of one Envoy which endpoints it uses (`/clusters`, `/server_info`).

The admin interface need not be reachable for clients, only for the control plane. If it is not
reachable, the health of the endpoints is not known.
"""

import asyncio
import json
import time
import urllib.request
from collections.abc import Iterator, Mapping
from http.client import HTTPException
from typing import Any

from sluice.config.values import join_host_port
from sluice.http.client import open_url
from sluice.printable import printable
from xds.envoys.observation import Host, NoObservation, Observation, Report

INTERVAL = 2.0
"""Seconds between two questions."""

MAX_SHARE = 0.05
"""Maximum share of the time that the questions take, also of an Envoy with many endpoints."""

TIMEOUT = 2.0
"""Seconds for the headers of an answer, and for its body. Envoy answers on its main thread, which
handles no requests."""

MAX_ANSWER = 64 << 20
"""Maximum bytes of an answer, which bounds the memory. One endpoint takes about a kilobyte."""

READ_SIZE = 1 << 16

MAX_TEXT = 200
"""Characters of the id of a node, and of an error."""

Json = Mapping[str, Any]  # Any: JSON of envoy.admin.v3


class AdminSource:
    """Asks the Envoy whose admin interface has this address."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def run(self, report: Report) -> None:
        """Ask periodically, until the task is cancelled."""
        while True:
            started = time.monotonic()
            found = await asyncio.to_thread(self.ask)
            took = time.monotonic() - started
            report(self._address, found)
            # An Envoy that does not answer is not busy with the question.
            answered = isinstance(found, Observation)
            await asyncio.sleep(max(INTERVAL, took / MAX_SHARE) if answered else INTERVAL)

    def ask(self) -> Observation | NoObservation:
        """Ask once. Blocks for at most a few seconds."""
        try:
            info, clusters = self._get("server_info"), self._get("clusters?format=json")
            node = printable(info["node"]["id"], MAX_TEXT)
            return Observation(node, dict(_clusters(clusters)))
        except (OSError, HTTPException) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
            return NoObservation(printable(reason, MAX_TEXT))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return NoObservation("the answer is not that of an Envoy's admin interface")

    def _get(self, path: str) -> Any:
        request = urllib.request.Request(f"http://{self._address}/{path}")
        deadline = time.monotonic() + TIMEOUT
        answer = bytearray()
        with open_url(request, TIMEOUT) as response:
            while chunk := response.read1(READ_SIZE):
                answer += chunk
                if len(answer) > MAX_ANSWER:
                    raise OSError(f"its answer to /{path} is larger than {MAX_ANSWER >> 20} MiB")
                if time.monotonic() > deadline:
                    raise TimeoutError("timed out")
        return json.loads(answer)


def _clusters(answer: Json) -> Iterator[tuple[str, tuple[Host, ...]]]:
    """The hosts of each cluster (envoy.admin.v3.Clusters). JSON omits fields with defaults."""
    for cluster in answer.get("cluster_statuses", ()):
        yield cluster["name"], tuple(map(_host, cluster.get("host_statuses", ())))


def _host(status: Json) -> Host:
    health = status.get("health_status", {})
    counts = {each["name"]: int(each.get("value", 0)) for each in status.get("stats", ())}
    checking = bool(health.get("pending_active_hc"))
    return Host(
        _address(status["address"]),
        status.get("hostname", ""),
        () if checking else tuple(_problems(health)),
        bool(health.get("failed_outlier_check")),
        checking,
        counts.get("cx_total", 0),
        counts.get("cx_connect_fail", 0),
        counts.get("rq_success", 0),
    )


def _problems(health: Json) -> Iterator[str]:
    """Why Envoy sends no requests to a host (envoy.admin.v3.HostHealthStatus)."""
    if health.get("failed_active_health_check"):
        timed_out = health.get("active_hc_timeout")
        yield "its health check times out" if timed_out else "its health check fails"
    if health.get("failed_outlier_check"):
        yield "ejected after failures in a row"
    if health.get("excluded_via_immediate_hc_fail"):
        yield "a response has told Envoy not to use it"
    if health.get("pending_dynamic_removal"):
        yield "it is being removed"


def _address(address: Json) -> str:
    if "pipe" in address:
        return f"unix:{address['pipe']['path']}"
    socket_address = address["socket_address"]
    return join_host_port(socket_address["address"], socket_address["port_value"])
