"""Counts the instructions of Envoy for a request that the callout decides, with valgrind.

As `bench.instructions`, for the settings of ext_proc: each variant changes one of the gateway's.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from bench.envoy_config import Variant, gateway_config, upstream_config
from bench.instructions import WARM_UP, Config, count
from bench.processes import envoy, free_port, local_address, serving
from xds.resources.callout_cluster import MAX_RETRIES, RETRY_BACK_OFF

CALLOUT = Variant("proxy", "POST", "asyncio", "ext_proc", "trivial")
CALLOUT_CLUSTER = "asyncio-trivial"
_RETRIES = {
    "retry_on": "reset",
    "num_retries": MAX_RETRIES,
    "retry_back_off": {"base_interval": f"{RETRY_BACK_OFF}s"},
}
_READ_HEADERS = (
    ":method", ":path", "authorization", "content-type", "content-length", "x-request-id",
)  # fmt: skip
"""Headers that a decision reads, unless a policy names others."""

Change = Callable[[Config, Config], None]
"""Changes the settings of the ext_proc filter, and the cluster of the callout."""


def _keep(_: Config, __: Config) -> None:
    """The gateway's settings."""


def _retries_of_service(settings: Config, callout: Config) -> None:
    _protocol_options(callout).pop("retry_policy")
    _service(settings)["retry_policy"] = _RETRIES


def _no_retries(_: Config, callout: Config) -> None:
    _protocol_options(callout).pop("retry_policy")


def _few_headers(settings: Config, _: Config) -> None:
    patterns = [{"exact": name} for name in _READ_HEADERS]
    settings["forwardRules"] = {"allowed_headers": {"patterns": patterns}}


def _no_mode_override(settings: Config, _: Config) -> None:
    settings["allowModeOverride"] = False


def _no_envoy_headers(settings: Config, _: Config) -> None:
    _service(settings)["envoyGrpc"]["skip_envoy_headers"] = True  # type: ignore[index]


VARIANTS: dict[str, Change] = {
    "callout": _keep,
    "retries of the gRPC service": _retries_of_service,
    "no retries": _no_retries,
    "six headers forwarded": _few_headers,
    "no allow_mode_override": _no_mode_override,
    "skip_envoy_headers": _no_envoy_headers,
}


def _service(settings: Config) -> Config:
    service = settings["grpcService"]
    assert isinstance(service, dict)
    return service


def _protocol_options(callout: Config) -> Config:
    [options] = callout["typed_extension_protocol_options"].values()  # type: ignore[attr-defined]
    assert isinstance(options, dict)
    return options


def config(change: Change, port: int, model_server: str, callout: str) -> Config:
    """The config of one Envoy that calls the callout."""
    built = gateway_config({CALLOUT: port}, model_server, {("asyncio", "trivial"): callout})
    resources = built["static_resources"]
    assert isinstance(resources, dict)
    clusters = {each["name"]: each for each in resources["clusters"]}
    _protocol_options(clusters[CALLOUT_CLUSTER])["retry_policy"] = _RETRIES
    [listener] = resources["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    change(manager["http_filters"][0]["typed_config"], clusters[CALLOUT_CLUSTER])
    return built


def plain(port: int, model_server: str) -> Config:
    """The config of an Envoy without a callout."""
    return gateway_config({Variant("proxy", "POST"): port}, model_server, {})


def main() -> None:
    """Print the instructions per request of each variant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1500)
    number: int = parser.parse_args().requests
    if shutil.which("valgrind") is None:
        sys.exit("bench: valgrind is not on PATH")
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as name, ExitStack() as stack:
        directory, port = Path(name), free_port()
        address = f"unix:{directory}/callout"
        (directory / "jwks").write_text('{"keys": []}')
        argv = [sys.executable, "-m", "bench.callout_server"]
        argv += ["asyncio", address, "trivial", str(directory / "jwks")]
        stack.enter_context(serving(argv, address))
        stack.enter_context(envoy(upstream_config(port), directory / "upstream.json", [port]))
        upstream = local_address(port)

        def measure(build: Callable[[int], Config]) -> float:
            runs: list[int] = []
            for requests in (WARM_UP, WARM_UP + number):
                own = free_port()
                runs.append(count(build(own), own, requests, directory))
            return (runs[1] - runs[0]) / number

        print(f"{'plain':<30}{measure(lambda own: plain(own, upstream)):>10.0f}", flush=True)
        base = 0.0
        for variant, change in VARIANTS.items():
            each = measure(lambda own, change=change: config(change, own, upstream, address))  # type: ignore[misc]
            base = base or each
            print(f"{variant:<30}{each:>10.0f}{each / base - 1:>+8.1%}", flush=True)


if __name__ == "__main__":
    main()
