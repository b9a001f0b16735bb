"""Kills a control plane that gets configs by the admin API, and checks that no revision is lost.

    python -m bench.api_kill [--kills N]

A `sluice control-plane` with a history in SQLite gets one config after another, until all of its
processes are killed with SIGKILL at a random moment. The next one continues. After each kill, every
acknowledged revision must be in the history with its text, every revision of the history must be
whole, no number may be missing, and the next control plane must serve the last revision.
"""

import argparse
import http.client
import json
import os
import random
import signal
import sys
import tempfile
import threading
import urllib.parse
from contextlib import suppress
from itertools import count
from pathlib import Path

from bench.changes import wait_until_in_force
from bench.processes import free_port, local_address, process_tree, serving
from bench.store_kill import History, config_text, kill_one, text_hash

MAX_WAIT = 1.0
"""Longest time in seconds from the first request to the kill: several configs are applied."""


def kill_control_plane(history: History, wait: float) -> None:
    """Start a control plane, send it configs, and kill it `wait` seconds later."""
    http_port, last = free_port(), max(history.reported)
    address, xds = local_address(http_port), local_address(free_port())
    argv = [sys.executable, "-m", "sluice.cli", "control-plane", "--store"]
    argv += [f"sqlite:{history.path}", "--http", address, "--xds", xds]
    with (
        (history.path.parent / "log").open("w") as log,
        serving(argv, address, stdout=log, stderr=log) as process,
    ):
        wait_until_in_force(http_port, last)
        kill = threading.Timer(wait, _kill, [process.pid])
        kill.start()
        apply_configs(http_port, history)
        kill.join()
        assert process.wait() == -signal.SIGKILL, "the control plane ended by itself"


def _kill(pid: int) -> None:
    for each in list(process_tree(pid)):
        os.kill(each, signal.SIGKILL)


def apply_configs(port: int, history: History) -> None:
    """Send one config after another until the server is gone. Keeps what it acknowledges."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    with suppress(OSError, http.client.HTTPException):
        for number in count(max(history.reported) + 1):
            text = config_text(number)
            parameters = {"reason": text_hash(text), "allow_disruption": "true"}
            query = urllib.parse.urlencode(parameters)
            headers = {"content-type": "application/yaml"}
            connection.request("PUT", f"/v1/config?{query}", text, headers)
            response = connection.getresponse()
            content = response.read()
            assert response.status == 200, content
            history.reported[json.loads(content)["revision"]] = text_hash(text)


def main() -> None:
    """Kill as often as the argument says."""
    parser = argparse.ArgumentParser(prog="python -m bench.api_kill", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    kills: int = parser.parse_args().kills
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        history = History(Path(folder) / "history.db")
        kill_one(history, 0.0)  # the first revision
        history.check()
        for _ in range(kills):
            kill_control_plane(history, random.uniform(0, MAX_WAIT))
            history.check()
        history.check(all_revisions=True)
    print(f"{kills} kills, {history.result()}")


if __name__ == "__main__":
    main()
