"""Kills a process that applies configs, at random moments, and checks that no revision is lost.

    python -m bench.store_kill [KILLS]

A process checks candidates and appends them to a store in SQLite, and reports each revision that it
has got. It is killed with SIGKILL, and the next one continues. After each kill, every reported
revision must be in the history with its text, and every revision of the history must be whole.
"""

import argparse
import asyncio
import hashlib
import os
import random
import signal
import sqlite3
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from sluice.config.checked import LoadedConfig
from xds.candidate.apply import Applier
from xds.resources.compiled import CompiledConfig, compile_config
from xds.sources.store.sqlite import SqliteStore

MAX_WAIT = 0.05
"""Seconds after the first append of a process until it is killed: several appends take place."""


@dataclass(slots=True)
class History:
    """What the killed processes have reported: a hash of the text of each revision."""

    path: Path
    reported: dict[int, str] = field(default_factory=dict)
    unreported: int = 0
    """Revisions that were durable before the process could report them."""
    checked: int = 0
    """The number of the last revision that was read and compared."""

    def check(self, *, all_revisions: bool = False) -> None:
        """Raises AssertionError if a revision is lost, changed, or half written.

        Reads the revisions since the last check, or all.
        """
        asyncio.run(self._check_revisions(1 if all_revisions else self.checked + 1))
        with sqlite3.connect(self.path) as connection:
            (result,) = connection.execute("PRAGMA integrity_check").fetchone()
        connection.close()
        assert result == "ok", result

    def result(self) -> str:
        """What the checks have found."""
        return (
            f"{self.checked} revisions, none lost or half written; "
            f"{self.unreported} were durable before they could be reported"
        )

    async def _check_revisions(self, first: int) -> None:
        store = SqliteStore(self.path)
        head = await store.head()
        last = 0 if head is None else head.number
        assert last >= max(self.reported, default=0), "a reported revision is lost"
        for number in range(first, last + 1):
            revision = await store.revision(number)
            assert revision is not None, f"revision {number} is missing"
            assert revision.reason == text_hash(revision.text), f"revision {number} is not whole"
            if number in self.reported:
                assert self.reported[number] == revision.reason, f"revision {number} has changed"
        self.unreported += last - max(self.reported, default=0)
        if head is not None:
            self.reported[last] = head.reason
        self.checked = last
        await store.close()


def kill_one(history: History, wait: float) -> None:
    """Start a process that applies configs, and kill it `wait` seconds after its first append."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            asyncio.run(_apply_forever(history.path, writing))
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "r") as reports:
        lines = [reports.readline()]
        time.sleep(wait)
        os.kill(child, signal.SIGKILL)
        lines += reports.readlines()
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the process ended by itself"
    for line in lines:
        number, _, digest = line.strip().partition(" ")
        if len(digest) == hashlib.sha256().digest_size * 2:  # the last line may be incomplete
            history.reported[int(number)] = digest


async def _apply_forever(path: Path, reports: int) -> None:
    store = SqliteStore(path)
    applier = Applier(store, path.parent, _compile, lambda: None)
    while True:
        head = await store.head()
        number = 1 if head is None else head.number + 1
        text = config_text(number)
        candidate = await applier.check(text)
        revision = await applier.apply(
            candidate, author="bench", reason=text_hash(text), origin="api", expected=number - 1
        )
        os.write(reports, f"{revision.number} {revision.reason}\n".encode())


async def _compile(loaded: LoadedConfig, *, ask: bool, dry_run: bool) -> CompiledConfig:
    return compile_config(loaded, loaded.config)


def config_text(number: int) -> str:
    """A config of a few models; every tenth is large, so that its append takes many pages."""
    count = 200 if number % 10 == 0 else 3
    model = "  m{0}: {{versions: {{v1: {{endpoints: [{{address: '10.0.0.{1}:80'}}]}}}}}}\n"
    return "models:\n" + "".join(model.format(n, (number + n) % 250 + 1) for n in range(count))


def text_hash(text: str) -> str:
    """The hash of a text. It is the reason of the revision with this text, to compare them."""
    return hashlib.sha256(text.encode()).hexdigest()


def main() -> None:
    """Kill as often as the argument says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kills", type=int, nargs="?", default=200)
    kills: int = parser.parse_args().kills
    with tempfile.TemporaryDirectory() as folder:
        history = History(Path(folder) / "history.db")
        for _ in range(kills):
            kill_one(history, random.uniform(0, MAX_WAIT))
            history.check()
        history.check(all_revisions=True)
    print(f"{kills} kills, {history.result()}")


if __name__ == "__main__":
    main()
