"""The states of endpoints, from what an Envoy says about its hosts, and the log of changes."""

import logging
import time

import pytest

from sluice.config import GatewayConfig
from xds.envoys.fleet import GRACE, SILENT_AFTER, EndpointView, Fleet, count_states
from xds.envoys.source import Host, NoObservation, Observation

FIRST, SECOND, NAMED = "10.0.0.1:80", "[0:0::1]:80", "models.test:80"
HEALTHY = Host(FIRST)


def config(*addresses: str) -> GatewayConfig:
    version = {"endpoints": [{"address": address} for address in addresses]}
    return GatewayConfig.model_validate(
        {"models": {"m": {"versions": {"v1": version}}}, "callout": {"address": "unix:/run/c"}}
    )


class Seen:
    """A fleet with a clock that the test sets."""

    def __init__(self, *addresses: str) -> None:
        self.config, self.now = config(*addresses), 1000.0
        self.fleet = Fleet(lambda: self.config, lambda: self.now)

    def hosts(self, *hosts: Host, after: float = 0.0, source: str = "envoy:9901") -> None:
        self.now += after
        self.fleet.report(source, Observation("envoy-1", {"m/v1": hosts}))

    @property
    def endpoints(self) -> list[EndpointView]:
        (view,) = self.fleet.envoys
        return [each for each in view.endpoints if each.cluster == "m/v1"]

    @property
    def state(self) -> tuple[str, str]:
        (endpoint,) = self.endpoints
        return endpoint.state, endpoint.why


FAILED = "its health check fails"
UNRESOLVED = ("unresolved", "Envoy has no address for the host name")


@pytest.mark.parametrize(
    ("address", "hosts", "expected"),
    [
        (FIRST, [HEALTHY], ("healthy", "")),
        (SECOND, [Host("[::1]:80")], ("healthy", "")),
        (FIRST, [Host(FIRST, problems=(FAILED,))], ("unhealthy", FAILED)),
        (FIRST, [Host(FIRST, problems=("e",), ejected=True)], ("ejected", "e")),
        (FIRST, [Host(FIRST, checking=True)], ("unknown", "its first health check has not ended")),
        (FIRST, [Host(FIRST, draining=True)], ("draining", "the config says drain")),
        (FIRST, [], ("unknown", "Envoy does not have the endpoint yet")),
        (NAMED, [], UNRESOLVED),
        (
            NAMED,
            [Host(FIRST, "other.test")],
            UNRESOLVED,
        ),
        (
            NAMED,
            [Host("10.0.0.9:81", "models.test")],
            UNRESOLVED,
        ),
        (NAMED, [Host(FIRST, "models.test")], ("healthy", "")),
        ("localhost:80", [Host("127.0.0.1:80")], ("healthy", "")),
        (
            "localhost:80",
            [Host("127.0.0.1:81")],
            ("unknown", "Envoy does not have the endpoint yet"),
        ),
        (
            NAMED,
            [Host(FIRST, "models.test"), Host("[::1]:80", "models.test", problems=(FAILED,))],
            ("healthy", "Envoy uses 1 of its 2 addresses"),
        ),
    ],
)
def test_an_endpoint_has_a_state_and_a_cause(
    address: str, hosts: list[Host], expected: tuple[str, str]
) -> None:
    seen = Seen(address)
    seen.hosts(*hosts)
    assert seen.state == expected


def test_the_time_of_a_report_grows_in_proportion_to_the_endpoints() -> None:
    addresses = [f"10.0.{number // 256}.{number % 256}:80" for number in range(1000)]
    seen = Seen(*addresses)
    started = time.thread_time()
    seen.hosts(*map(Host, addresses))
    assert time.thread_time() - started < 1.0
    assert {each.state for each in seen.endpoints} == {"healthy"}


def test_a_cluster_that_envoy_does_not_have_is_unknown() -> None:
    seen = Seen(FIRST)
    seen.fleet.report("envoy:9901", Observation("envoy-1", {}))
    assert seen.state == ("unknown", "Envoy does not have the cluster yet")


def test_an_endpoint_whose_connections_fail_is_unreachable_until_one_succeeds() -> None:
    seen = Seen(FIRST)
    counts = [
        # connections, failed connections, successful requests; expected state
        ((5, 5, 0), "healthy"),  # failures before the first observation
        ((5, 5, 0), "healthy"),
        ((8, 8, 0), "unreachable"),
        ((8, 8, 0), "unreachable"),
        ((9, 8, 1), "healthy"),
        ((12, 10, 5), "healthy"),  # some fail, but requests succeed
        ((14, 11, 5), "unreachable"),
        ((1, 0, 0), "healthy"),  # Envoy has restarted
    ]
    for (made, failed, succeeded), state in counts:
        host = Host(
            FIRST, connections=made, failed_connections=failed, successful_requests=succeeded
        )
        seen.hosts(host, after=2.0)
        assert seen.state[0] == state


def test_a_state_has_the_time_since_it_was_seen_first() -> None:
    seen = Seen(FIRST)
    seen.hosts(HEALTHY)
    seen.hosts(Host(FIRST, problems=(FAILED,)), after=10)
    seen.hosts(Host(FIRST, problems=(FAILED,)), after=10)
    (endpoint,) = seen.endpoints
    assert endpoint.since == 1010.0


def test_each_change_of_an_endpoint_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    seen = Seen(FIRST)
    failing = Host(FIRST, problems=(FAILED,))
    for host in (HEALTHY, failing, failing, HEALTHY, HEALTHY):
        seen.hosts(host, after=10)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        (
            "WARNING",
            f"endpoint {FIRST} of m/v1: healthy -> unhealthy ({FAILED}) after 10 s, "
            "as node envoy-1 sees it",
        ),
        (
            "INFO",
            f"endpoint {FIRST} of m/v1: unhealthy -> healthy after 20 s, as node envoy-1 sees it",
        ),
    ]


def test_an_endpoint_that_starts_is_logged_only_if_it_stays_unhealthy(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen = Seen(NAMED)
    seen.hosts()
    seen.hosts(after=GRACE - 1)
    assert caplog.records == []
    seen.hosts(after=1)
    (record,) = caplog.records
    assert record.getMessage().startswith(f"endpoint {NAMED} of m/v1: new -> unresolved")


def test_an_endpoint_that_the_config_no_longer_has_is_forgotten(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen = Seen(FIRST)
    seen.hosts(HEALTHY)
    seen.config = config("10.0.0.2:80")
    seen.hosts(Host("10.0.0.2:80"), after=GRACE)
    assert [each.address for each in seen.endpoints] == ["10.0.0.2:80"]
    seen.config = config(FIRST)
    seen.hosts(Host(FIRST, problems=(FAILED,)), after=GRACE)
    assert caplog.records == []


def test_the_endpoints_of_one_envoy_do_not_change_those_of_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen = Seen(FIRST)
    for number in range(4):
        seen.hosts(HEALTHY, source="a", after=10)
        seen.hosts(Host(FIRST, problems=(FAILED,)) if number else HEALTHY, source="b")
    assert len(caplog.records) == 1
    one, other = seen.fleet.envoys
    assert (one.endpoints[0].state, other.endpoints[0].state) == ("healthy", "unhealthy")


def test_an_envoy_that_stops_answering_keeps_what_it_has_seen(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    seen = Seen(FIRST)
    seen.hosts(HEALTHY)
    for _ in range(2):
        seen.now += 10
        seen.fleet.report("envoy:9901", NoObservation("timed out"))
    (view,) = seen.fleet.envoys
    assert (view.node, view.error, view.answered_at) == ("envoy-1", "timed out", 1000.0)
    assert seen.state == ("healthy", "")
    assert count_states(seen.fleet.envoys)["unknown"] == 1
    seen.hosts(HEALTHY, after=10)
    assert view.error is None
    assert [record.getMessage() for record in caplog.records] == [
        "Envoy at envoy:9901 does not answer: timed out",
        "Envoy at envoy:9901 answers again after 20 s",
    ]


def test_an_envoy_that_misses_one_answer_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The Envoy of a gateway that stops ends before the control plane."""
    caplog.set_level(logging.INFO)
    seen = Seen(FIRST)
    seen.hosts(HEALTHY)
    seen.now += SILENT_AFTER - 1
    seen.fleet.report("envoy:9901", NoObservation("refused"))
    seen.hosts(HEALTHY, after=1)
    assert caplog.records == []


def test_an_envoy_that_never_answers_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    """The admin interface of an Envoy on another machine is usually not reachable."""
    caplog.set_level(logging.INFO)
    seen = Seen(FIRST)
    for _ in range(3):
        seen.fleet.report("envoy:9901", NoObservation("refused"))
        seen.now += GRACE
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert "not known: no Envoy answers at envoy:9901: refused" in record.getMessage()
    assert count_states(seen.fleet.envoys)["healthy"] == 0


def test_the_weight_of_an_endpoint_is_that_of_the_config() -> None:
    seen = Seen(FIRST)
    model = seen.config.models["m"].model_dump(exclude_defaults=True)
    model["versions"]["v1"]["endpoints"] = [{"address": FIRST, "weight": 7}]
    seen.config = GatewayConfig.model_validate({"models": {"m": model}})
    seen.hosts(HEALTHY)
    assert [endpoint.weight for endpoint in seen.endpoints] == [7]
