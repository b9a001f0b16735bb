"""The CPUs that this process and its children may use."""

import os
from collections.abc import Iterator
from math import ceil
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


def usable_cpus(own_cgroups: Path = OWN_CGROUPS, cgroups: Path = CGROUPS) -> int:
    """The CPUs that this process may run on, or the CPU time that its cgroups have, if less.

    A part of a CPU counts as one. Only cgroups of version 2 are considered.
    """
    return min([len(os.sched_getaffinity(0)), *_quotas(own_cgroups, cgroups)])


def _quotas(own_cgroups: Path, cgroups: Path) -> Iterator[int]:
    """The quotas of the process's cgroup and of those above it, in CPUs."""
    try:
        lines = own_cgroups.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, _, path = line.partition("::")
        if number == "0":
            own = cgroups / path.strip("/")
            for folder in (own, *own.parents):
                quota = _quota(folder / "cpu.max")
                if quota is not None:
                    yield quota
                if folder == cgroups:
                    return


def _quota(file: Path) -> int | None:
    """The quota in a file with microseconds and period, such as `150000 100000`."""
    try:
        quota, period = file.read_text().split()
        return max(1, ceil(int(quota) / int(period)))
    except (OSError, ValueError):  # No file, or `max`: no quota.
        return None
