"""Asks the admin interface of one Envoy which endpoints it uses (`/clusters`, `/server_info`).

The admin interface need not be reachable for clients, only for the control plane. If it is not
reachable, the health of the endpoints is not known.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sluice.config.addresses import is_ip, join_host_port, reachable
from sluice.http.client import NoAnswerError, fetch
from sluice.printable import printable
from xds.envoys.source import Host, NoObservation, Observation, Report

INTERVAL = 2.0
"""Seconds between two questions."""

MAX_SHARE = 0.05
"""Maximum share of the time that the questions take, also of an Envoy with many endpoints."""

TIMEOUT = 4.0
"""Seconds for a whole answer. Envoy answers on its main thread, which handles no requests."""

MIN_MAX_ANSWER = 16 << 20
MAX_ENDPOINT = 8 << 10
"""Maximum bytes of an answer: at least `MIN_MAX_ANSWER`, because a name can have many addresses,
and `MAX_ENDPOINT` for each endpoint of the config.
"""

STATS = {"cx_total", "cx_connect_fail", "rq_success"}
"""The statistics of a host that are read."""

MAX_TEXT = 200
"""Characters of the id of a node, and of an error."""

Json = Mapping[str, Any]  # Any: JSON of envoy.admin.v3


class AdminSource:
    """Asks the Envoy whose admin interface has this address.

    `endpoints` returns the number of endpoints of the config.
    """

    def __init__(self, address: str, endpoints: Callable[[], int] = lambda: 0) -> None:
        self._address = address
        self._endpoints = endpoints

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
        """Ask once. Blocks for at most a few seconds. Raises no exception, whatever answers."""
        try:
            info, clusters = self._get("server_info"), self._get("clusters?format=json")
            node = printable(info["node"]["id"], MAX_TEXT)
            return Observation(node, dict(_clusters(clusters)))
        except NoAnswerError as error:
            return NoObservation(printable(str(error), MAX_TEXT))
        except Exception:
            # Any exception: another program may listen on the address. Its answer may be nested too
            # deeply to be parsed, or have numbers that are too large, and must not end the process.
            return NoObservation("the answer is not that of an Envoy's admin interface")

    def _get(self, path: str) -> Any:
        maximum = MIN_MAX_ANSWER + MAX_ENDPOINT * self._endpoints()
        answer = fetch(f"http://{reachable(self._address)}/{path}", TIMEOUT, maximum)
        return json.loads(answer, object_hook=_without_other_stats)


def _without_other_stats(parsed: dict[str, Any]) -> Json:
    """Drops the statistics of a host that are not read, while the answer is parsed.

    Most of an answer is such statistics, and parsed they take twenty times as many bytes.
    """
    if "stats" in parsed:
        parsed["stats"] = [each for each in parsed["stats"] if each["name"] in STATS]
    return parsed


def _clusters(answer: Json) -> Iterator[tuple[str, tuple[Host, ...]]]:
    """The hosts of each cluster (envoy.admin.v3.Clusters). JSON omits fields with defaults."""
    for cluster in answer.get("cluster_statuses", ()):
        yield _text(cluster["name"]), tuple(map(_host, cluster.get("host_statuses", ())))


def _host(status: Json) -> Host:
    health = status.get("health_status", {})
    counts = {each["name"]: int(each.get("value", 0)) for each in status.get("stats", ())}
    checking = bool(health.get("pending_active_hc"))
    return Host(
        _address(status["address"]),
        _text(status.get("hostname", "")),
        () if checking else tuple(_problems(health)),
        bool(health.get("failed_outlier_check")),
        checking,
        health.get("eds_health_status") == "DRAINING",
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
        return f"unix:{_text(address['pipe']['path'])}"
    socket_address = address["socket_address"]
    host = _text(socket_address["address"])
    if not is_ip(host):
        raise ValueError
    return join_host_port(host, int(socket_address["port_value"]))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value
