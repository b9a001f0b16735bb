"""The init process of a container forwards signals, waits for orphans, and has a command's status.

Here, it inherits orphans as a subreaper (prctl(2)), because it is not process 1.
"""

import signal
import subprocess
import sys

import pytest

PR_SET_CHILD_SUBREAPER = 36

SCRIPT = f"""
import ctypes, os, signal, sys, time
from pathlib import Path
from sluice.init_process import run_as_init

def orphan():
    # The child of a child, whose parent ends first.
    read, write = os.pipe()
    if os.fork() == 0:
        if os.fork() == 0:
            os.write(write, str(os.getpid()).encode())
            os._exit(0)
        os._exit(0)
    os.wait()
    found = Path("/proc", os.read(read, 20).decode())
    while found.exists():
        time.sleep(0.01)
    return 3

def stop():
    def on_sigterm(*_):
        print("SIGTERM", flush=True)
        sys.exit(5)
    signal.signal(signal.SIGTERM, on_sigterm)
    return ready()

def ready():
    print("ready", flush=True)
    while True:  # Python runs no handler in a sleep that begins just after the signal.
        time.sleep(0.05)

# `nohup` and background jobs of a shell ignore some, and a process inherits that.
for number in signal.SIGHUP, signal.SIGINT:
    signal.signal(number, signal.SIG_DFL)
ctypes.CDLL(None).prctl({PR_SET_CHILD_SUBREAPER}, 1)
sys.exit(run_as_init(globals()[sys.argv[1]]))
"""


def started(command: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", SCRIPT, command]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def test_it_waits_for_orphans_and_has_the_status_of_the_command() -> None:
    assert started("orphan").wait(60) == 3


@pytest.mark.parametrize(
    ("command", "number", "output", "status"),
    [
        ("stop", signal.SIGTERM, "SIGTERM\n", 5),
        # Without a handler, such as while the command starts.
        ("ready", signal.SIGTERM, "", 128 + signal.SIGTERM),
        ("ready", signal.SIGHUP, "", 128 + signal.SIGHUP),
        ("ready", signal.SIGINT, "", 128 + signal.SIGINT),
    ],
)
def test_it_forwards_signals(
    command: str, number: signal.Signals, output: str, status: int
) -> None:
    process = started(command)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.stdout.read() == output
    assert process.wait(60) == status
