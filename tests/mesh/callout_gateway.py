"""A gateway without an Envoy of its own: control plane, callout workers and example model servers.

An Envoy that istiod configures forwards the traffic, and asks this callout.
"""

import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from sluice.config.load import load
from sluice.runner import plan
from tests.integration.gateway import START_TIMEOUT, Gateway, eventually, free_ports, jwks
from tests.mesh.processes import Process


@dataclass
class CalloutGateway(Gateway):
    """A gateway whose `config` tests may edit while it runs. It has no address for clients.

    `arguments` are those of the control plane. Worker N of the callout listens on TCP, on the port
    of `config["callout"]["address"]` + N.
    """

    started: list[Process] = field(default_factory=list)

    def start(self) -> None:
        """Start the processes, and wait until each worker has its policy."""
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "jwks.json").write_text(jwks())
        callout = self.config["callout"]
        callout.setdefault("address", f"127.0.0.1:{_adjacent_ports(callout['workers'])}")
        self.write()
        models = plan.demo_models(load(self.file), faults=True)
        if models is not None:
            self._run("models", models.argv, models.environment)
        self._start_control_plane()
        self._run_command("callout")
        eventually(self._ready, START_TIMEOUT)

    def restart_control_plane(self, while_stopped: Callable[[], None] = lambda: None) -> None:
        """End the control plane, call `while_stopped`, and start it again on the same addresses."""
        (stopped,) = (each for each in self.started if each.name == "control-plane")
        stopped.stop()
        self.started.remove(stopped)
        while_stopped()
        self._start_control_plane()
        eventually(self._ready, START_TIMEOUT)

    def add_callout(self, name: str, address: str) -> Process:
        """Start one more callout, with one worker at this address."""
        workers, (metrics,) = len(self.workers()), free_ports(1)
        options = ["--address", address, "--workers", "1", "--metrics", f"127.0.0.1:{metrics}"]
        self._run_command("callout", *options, name=name)
        eventually(lambda: len(self.workers()) > workers)
        return self.started[-1]

    def _start_control_plane(self) -> None:
        self._run_command("control-plane", *self.arguments)

    def _run_command(self, command: str, *arguments: str, name: str | None = None) -> None:
        argv = [sys.executable, "-P", "-m", "sluice.cli", command, str(self.file), *arguments]
        self._run(name or command, argv, {"PYTHONPATH": os.pathsep.join(sys.path)})

    def _run(self, name: str, argv: Sequence[str], environment: Mapping[str, str] | None) -> None:
        self.started.append(Process(name, argv, self.directory, environment))

    def _ready(self) -> bool:
        for process in self.started:
            process.require_running()
        with suppress(OSError):
            return len(self.workers()) == self.config["callout"]["workers"] and self.in_sync()
        return False

    def stop(self) -> None:
        """End all processes, the last one first."""
        for process in reversed(self.started):
            process.stop()

    def callout_addresses(self) -> list[str]:
        """The address of each worker: `127.0.0.1:PORT`."""
        return list(load(self.file).callout.addresses())


def _adjacent_ports(count: int) -> int:
    """The first of so many free ports in a row."""
    while True:
        (first,) = free_ports(1)
        with suppress(OSError), ExitStack() as stack:
            for port in range(first, first + count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
