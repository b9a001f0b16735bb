"""The CPUs that a process may use: those of its affinity, or fewer by the quota of a cgroup."""

import os
from pathlib import Path

import pytest

from sluice.runner.cpus import usable_cpus

CPUS = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("quotas", "expected"),
    [
        ({}, CPUS),
        ({"pod/app": "max 100000"}, CPUS),
        ({"pod/app": "100000 100000"}, 1),
        ({"pod/app": "30000 100000"}, 1),
        ({"pod/app": "max 100000", "pod": "50000 50000"}, 1),
        ({"": "100000 100000"}, 1),
        ({"pod/app": "99900000 100000"}, CPUS),
        ({"pod/app": "not a quota"}, CPUS),
        ({"other": "100000 100000"}, CPUS),
    ],
)
def test_the_smallest_quota_of_the_own_cgroups_counts(
    tmp_path: Path, quotas: dict[str, str], expected: int
) -> None:
    for folder, quota in quotas.items():
        (tmp_path / "fs" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / folder / "cpu.max").write_text(quota + "\n")
    (tmp_path / "own").write_text("1:cpu:/v1\n0::/pod/app\n")
    assert usable_cpus(tmp_path / "own", tmp_path / "fs") == expected


def test_a_part_of_a_cpu_counts_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    (tmp_path / "own").write_text("0::/\n")
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    assert usable_cpus(tmp_path / "own", tmp_path) == 3


def test_without_cgroups_the_affinity_counts(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path / "own", tmp_path) == CPUS
