"""Process 1 of a container.

The kernel treats this process in a special way: signals without a handler have no effect on it, so
a container could not be stopped while a command starts; and it inherits processes whose parent has
ended, which stay zombies until it waits for them.
"""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Final

_FORWARDED: Final = frozenset(
    {
        signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1,
        signal.SIGUSR2,
    }
)  # fmt: skip

_SI_KERNEL: Final = 0x80
"""`si_code` of a signal of a terminal, which all processes of the foreground get (sigaction(2))."""


def run_as_init(command: Callable[[], int]) -> int:
    """Run a command in a child process, and be the init process of the container until it ends.

    Returns the exit status of the command; 128 and the number of a signal that has ended it. In the
    child process, it returns the result of the command.
    """
    waited = _FORWARDED | {signal.SIGCHLD}
    # Blocked before the fork, so that none is lost.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return command()
    while True:
        received = signal.sigwaitinfo(waited)
        if received.si_signo != signal.SIGCHLD:
            if received.si_code != _SI_KERNEL:
                os.kill(child, received.si_signo)
            continue
        status = _reap(child)
        if status is not None:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _reap(child: int) -> int | None:
    """Wait for all processes that have ended. Returns the status of the child if it is among them.

    A single SIGCHLD may stand for several processes.
    """
    found = None
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == child:
                found = status
    return found
