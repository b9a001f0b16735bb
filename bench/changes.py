"""Changes the config of a gateway by the admin API, again and again, while it is under load.

    python -m bench.changes [--changes N] [--rate REQUESTS] [--kinds KIND ...] [--busy N]

A `sluice up` with a history in SQLite gets `--rate` requests a second: POST with a token, half
to models that Envoy decides alone at first, half to models of the callout. Meanwhile the admin API
gets changes of all kinds, one after another, most of them of these models, each of which always has
versions with endpoints. Prints the failed requests, and the distribution of the time of a change.

`--busy N` makes the machine busy: N processes compute all the time, and the threads of Envoy that
serve requests run only while no other process wants to (SCHED_IDLE). So they learn of a change much
later than Envoy's main thread, which accepts it.
"""

import argparse
import http.client
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import wrk
from bench.gateway import BODY_BYTES, SCRIPT, require_tools
from bench.gateway_config import Config, gateway, issuers, model_name
from bench.patch import JSON, MERGE_PATCH, Call, print_distributions
from bench.processes import envoy_processes, free_port, local_address, model_server, sluice_up
from bench.tokens import TokenIssuer, distinct_tokens

MODELS = 4
"""Models under load. The callout decides every second one (`BY_CALLOUT`) when the load begins."""

BY_CALLOUT = [model_name(number) for number in range(1, MODELS, 2)]

TOKENS = 1000
CONNECTIONS = 64
"""Connections to each model. A connection has one request at a time, and waits after each."""

SETTLE = 5.0
"""Seconds of load before the first and after the last change."""

MAX_WAIT = 60.0
"""Seconds after which a change counts as lost."""

POLL = 0.01
"""Seconds between two readings of the status."""

FAILURES = """
failures = ""
local threads = {}
function delay() return %d end
function setup(thread) table.insert(threads, thread) end
function response(status, headers, body)
  if status ~= 200 then
    failures = failures .. "failed: " .. status .. " " .. body:gsub("%%s+", " ") .. "\\n"
  end
end
function done()
  for _, thread in ipairs(threads) do io.write(thread:get("failures")) end
end
"""
"""Part of a wrk script that waits between requests, and prints the responses that are not 200. It
needs the milliseconds to wait."""


@dataclass(slots=True)
class Operator:
    """Makes changes of random kinds. `servers`: addresses of the model servers."""

    servers: Sequence[str]
    extra: Mapping[str, object]
    """A model that is added and removed, without load."""
    random: random.Random
    kinds: Sequence[str]
    extras: list[str] = field(default_factory=list)
    stable: dict[str, str] = field(default_factory=dict)
    switched: set[str] = field(
        default_factory=lambda: {f"{name} by callout" for name in BY_CALLOUT}
    )
    number: int = 0

    def next(self) -> tuple[str, Call]:
        """The next change, with the name of its kind."""
        self.number += 1
        kind = self.random.choice(self.kinds)
        return kind, _MAKE[kind](self, model_name(self.random.randrange(MODELS)))

    def switch(self, name: str) -> bool:
        """Switch something on or off. Returns whether it is on now."""
        self.switched ^= {name}
        return name in self.switched

    def endpoints(self) -> list[Config]:
        """One of the model servers, or both, with a new weight."""
        chosen = self.random.sample(self.servers, self.random.randint(1, len(self.servers)))
        return [{"address": each, "weight": self.number % 100 + 1} for each in chosen]


def _extra(operator: Operator, model: str) -> Call:
    """Adds a model, or removes one."""
    if len(operator.extras) > operator.random.randrange(10):
        return Call("DELETE", f"/v1/models/{operator.extras.pop(0)}", None, {})
    operator.extras.append(f"extra-{operator.number}")
    return Call("PUT", f"/v1/models/{operator.extras[-1]}", operator.extra, JSON)


def _patch(model: str, **changes: object) -> Call:
    return Call("PATCH", f"/v1/models/{model}", changes, MERGE_PATCH)


def _endpoints(operator: Operator, model: str) -> Call:
    return _patch(model, versions={"v2": {"endpoints": operator.endpoints()}})


def _version(operator: Operator, model: str) -> Call:
    """A new version becomes the stable one, and the old one is removed."""
    old, new = operator.stable.get(model, "v1"), f"new-{operator.number}"
    operator.stable[model] = new
    return _patch(model, stable=new, versions={old: None, new: {"endpoints": operator.endpoints()}})


def _canary(operator: Operator, model: str) -> Call:
    percent = round(operator.random.uniform(1, 99), 2)
    return Call("PUT", f"/v1/models/{model}/canaries/v2", {"percent": percent}, JSON)


def _limit(operator: Operator, model: str) -> Call:
    limit = {"rate": 1_000_000 + operator.number, "burst": 1_000_000}
    return Call("PATCH", "/v1/limits", {"listener": limit, "models": {model: limit}}, MERGE_PATCH)


def _timeout(operator: Operator, model: str) -> Call:
    return _patch(model, timeout=f"{100 + operator.number}s")


def _placement(operator: Operator, model: str) -> Call:
    on = operator.switch(f"{model} by callout")
    return _patch(model, placement="callout" if on else "auto")


def _drain(operator: Operator, model: str) -> Call:
    """Drains one of the two endpoints of a version, or sends it requests again."""
    action = "drain" if operator.switch(f"drain {model}") else "undrain"
    path = f"/v1/models/{model}/versions/v3/endpoints/{operator.servers[1]}/{action}"
    return Call("POST", path, None, {})


_MAKE = {
    "model": _extra,
    "endpoints": _endpoints,
    "version": _version,
    "canary": _canary,
    "limit": _limit,
    "timeout": _timeout,
    "placement": _placement,
    "drain": _drain,
}
"""What makes a change of each kind."""


def wait_until_in_force(port: int, revision: int) -> None:
    """Wait until the Envoy and the workers have this revision. Raises RuntimeError."""
    deadline = time.monotonic() + MAX_WAIT
    while (status := _status(port))["revision"] != revision or status["step"] is not None:
        if status["error"] is not None or time.monotonic() > deadline:
            raise RuntimeError(f"revision {revision} is not in force: {status}")
        time.sleep(POLL)


def _status(port: int) -> Mapping[str, object]:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/v1/status")
    status: dict[str, object] = json.load(connection.getresponse())
    connection.close()
    return {each: status[each] for each in ("revision", "step", "error")}


@contextmanager
def load(port: int, rate: float, directory: Path) -> Iterator[list[wrk.WrkReport]]:
    """Send requests to each model while the `with` block runs. Fills in the reports at its end."""
    reports: list[wrk.WrkReport] = []
    wait = FAILURES % (CONNECTIONS * MODELS / rate * 1000)
    running = []
    for name in map(model_name, range(MODELS)):
        path, script = f"/v2/models/{name}/infer", directory / f"{name}.lua"
        script.write_text(SCRIPT % (BODY_BYTES, path, directory / "tokens") + wait)
        argv = wrk.command(port, path, {}, CONNECTIONS, 24 * 3600, script)
        running.append(subprocess.Popen(argv, stdout=subprocess.PIPE, text=True))
    try:
        yield reports
    finally:
        for process in running:
            process.send_signal(signal.SIGINT)  # wrk prints its report
        reports += [wrk.parse(process.communicate()[0]) for process in running]


@contextmanager
def busy(sluice_up_pid: int, processes: int) -> Iterator[None]:
    """Keep the machine busy while the `with` block runs: see the top of this module."""
    tasks = (task for pid in envoy_processes(sluice_up_pid) for task in _tasks(pid))
    for task in tasks if processes else ():
        if (task / "comm").read_text().startswith("wrk:worker"):
            os.sched_setscheduler(int(task.name), os.SCHED_IDLE, os.sched_param(0))
    argv = [sys.executable, "-c", "while True: pass"]
    running = [subprocess.Popen(argv) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def _tasks(pid: int) -> list[Path]:
    return list(Path(f"/proc/{pid}/task").iterdir())


def run(options: argparse.Namespace, directory: Path) -> list[wrk.WrkReport]:
    """Make the changes under load, and print how long they took. Returns the reports of wrk."""
    trusted = issuers()
    (directory / "tokens").write_text("\n".join(distinct_tokens(trusted, TOKENS)))
    with ExitStack() as stack:
        servers = []
        for folder in (directory / "a", directory / "b"):
            folder.mkdir()
            port = free_port()
            stack.enter_context(model_server(port, folder))
            servers.append(local_address(port))
        listener, config, admin = _gateway(servers, trusted, directory)
        store = f"sqlite:{directory}/history.db"
        up = stack.enter_context(sluice_up(config, directory, "--store", store))
        reports = stack.enter_context(load(listener, options.rate, directory))
        extra, chosen = config["models"]["text"], random.Random(options.seed)
        operator = Operator(servers, extra, chosen, options.kinds)
        stack.enter_context(busy(up, options.busy))
        time.sleep(SETTLE)
        taken = make_changes(operator, admin, options)
        time.sleep(SETTLE)
    print_distributions(taken)
    return reports


def make_changes(
    operator: Operator, port: int, options: argparse.Namespace
) -> dict[str, list[float]]:
    """Make the changes. Returns the seconds until the API responded, and until they were in force.

    Of the changes that are sent together, only the last one is waited for.
    """
    taken: dict[str, list[float]] = defaultdict(list)
    for number in range(1, options.changes + 1):
        kind, call = operator.next()
        began = time.monotonic()
        revision = call.send(port)
        taken["response"].append(time.monotonic() - began)
        if number % options.together == 0 or number == options.changes:
            wait_until_in_force(port, revision)
            for group in ("in force", kind):
                taken[group].append(time.monotonic() - began)
    return taken


def _gateway(
    servers: Sequence[str], trusted: Sequence[TokenIssuer], directory: Path
) -> tuple[int, Config, int]:
    """The port of the listener, the config, and the port of the admin API."""
    listener, config = gateway("auto", MODELS, 1, servers[0], trusted, directory)
    for name in BY_CALLOUT:
        config["models"][name]["placement"] = "callout"
    for model in config["models"].values():
        model["versions"]["v3"]["endpoints"] = [{"address": each} for each in servers]
    config["requests"] = {"expose_reason": True}
    return listener, config, int(config["control_plane"]["http"].rpartition(":")[2])


def report(reports: Sequence[wrk.WrkReport]) -> int:
    """Print the requests and the failed ones. Returns the number of these."""
    failed, examples = Counter[str](), dict[str, str]()
    for each in reports:
        for status, body in re.findall(r"^failed: (\d+) (.*)$", each.text, re.MULTILINE):
            failed[status] += 1
            examples.setdefault(status, body)
        for line in re.findall(r"Socket errors: (.*)$", each.text, re.MULTILINE):
            for kind, count in re.findall(r"(\w+) (\d+)", line):
                failed[f"socket error: {kind}"] += int(count)
    requests, rate = (sum(getattr(each, name) for each in reports) for name in ("requests", "rate"))
    print(f"{requests} requests, {rate:.0f} a second, {failed.total()} failed", dict(+failed))
    for status, body in examples.items():
        print(f"    the first {status}: {body}")
    return failed.total()


def main() -> int:
    """Parse the arguments and measure. Returns 1 if a request has failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.changes", description=__doc__)
    parser.add_argument("--changes", type=int, default=1000)
    parser.add_argument("--together", type=int, default=1, help="changes sent without a wait")
    parser.add_argument("--rate", type=float, default=2000.0, help="requests a second")
    parser.add_argument("--kinds", nargs="+", choices=_MAKE, default=[*_MAKE])
    parser.add_argument("--busy", type=int, default=0, help="processes that compute all the time")
    parser.add_argument("--seed", type=int, default=0, help="of the random changes")
    options = parser.parse_args()
    require_tools()
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as directory:
        return int(report(run(options, Path(directory))) > 0)


if __name__ == "__main__":
    raise SystemExit(main())
