"""Checks candidates, and appends those that pass to the config history.

A candidate is a config that is not in force yet: an edit of the file, or a write by API. Whatever
the history has is rolled out by the follower (`xds.delivery.follow`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final, Protocol, TypeAlias, TypeVar

from sluice.config import ConfigError, GatewayConfig, Problem
from sluice.config.changes import Change, config_changes
from sluice.config.checked import LoadedConfig
from sluice.config.disruption import check_change
from sluice.config.errors import Place, json_pointer
from sluice.config.outside import check_outside
from sluice.config.reader import ConfigReader
from sluice.config.tls_files import EXPIRED
from sluice.contract.history import AUTHOR, ROLLBACK, rejection
from sluice.printable import printable
from xds.candidate.percents import with_kept_percents
from xds.resources.compiled import CompiledConfig
from xds.sources.reading import Reading, read_config
from xds.sources.store.store import (
    MAX_HISTORY,
    ConflictError,
    Draft,
    Revision,
    RevisionInfo,
    Store,
)
from xds.sources.store.text import MAX_TEXT

T = TypeVar("T")

Check: TypeAlias = Callable[[LoadedConfig, CompiledConfig], None]
"""A further check of a candidate, in a thread. Raises ConfigError."""


class Compile(Protocol):
    """Compiles a config.

    `ask`: whether sources are asked for endpoints that are not known yet. `dry_run`: the config is
    not to be applied, so that no other waits for it.
    """

    def __call__(
        self, loaded: LoadedConfig, *, ask: bool, dry_run: bool
    ) -> Awaitable[CompiledConfig]:
        """Raises ConfigError."""


CANDIDATE: Final = "config"
"""The name of a candidate in errors, where a config file has its path."""

MAX_REASON: Final = 4096
"""Characters of the reason of a revision that are kept."""

MAX_NAME: Final = 256
"""Characters of the author and of the origin of a revision that are kept."""

FILE_AUTHOR: Final = "file"
"""The author of revisions that are edits of the watched file."""

_KEPT: Final = 2
"""Configs of revisions that are kept: the head, and the one before."""


class FileSourceError(Exception):
    """The config is a file, so nothing else can change it. The message has a remedy."""

    def __init__(self, file: str) -> None:
        super().__init__(
            f"the config is the file {file}: edit the file, or start the control plane with "
            "--store sqlite:PATH (and --watch FILE to follow the file too)"
        )


@dataclass(frozen=True, slots=True)
class Candidate:
    """A config that has passed all checks. `base` is the revision that it is compared with.

    `changes` are those from the base; None as base: from the empty config. They hold no secrets.
    """

    reading: Reading = field(repr=False)
    compiled: CompiledConfig
    base: int | None
    changes: tuple[Change, ...]

    @property
    def loaded(self) -> LoadedConfig:
        """The config and its policy."""
        return self.reading.loaded

    @property
    def text(self) -> str:
        """The text, which may hold secrets."""
        return self.loaded.text

    @property
    def version(self) -> str:
        """The config version."""
        return self.loaded.policy.version

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """The warnings about the config and the files that it names."""
        return self.compiled.warnings

    def check_certificates(self) -> None:
        """Raises ConfigError if a change names a file whose certificate has expired.

        Only for what somebody has written now. A certificate that has been named before must not
        stop other changes, and a rollback must be possible.
        """
        if self.base is None:
            return
        changed = tuple(f"{json_pointer(each.path)}/" for each in self.changes)
        refused = [
            replace(each, code="")
            for each in self.loaded.warnings
            if each.code == EXPIRED.code and f"{each.pointer}/".startswith(changed)
        ]
        if refused:
            raise ConfigError(refused)


class Applier:
    """Checks and applies candidates.

    File names in candidates are relative to `directory`; those of a candidate by API are below
    `folder` (`sluice.config.outside`). `running` returns the config in force. `file` is the config
    file, if nothing but its edits may change the config.
    """

    def __init__(
        self,
        store: Store,
        directory: Path,
        compile_loaded: Compile,
        running: Callable[[], GatewayConfig | None],
        *,
        file: Path | None = None,
        folder: Path | None = None,
        checks: Sequence[Check] = (),
    ) -> None:
        self.store = store
        self._directory = directory
        self._compile = compile_loaded
        self._running = running
        self._file = file
        self._folder = folder
        self._checks = tuple(checks)
        self._reader = ConfigReader()
        self._reader_free = asyncio.Lock()
        """Only one thread replaces the models of the latest config, which the reader keeps."""
        self._readings: dict[int, Reading] = {}
        self._configs: dict[int, GatewayConfig] = {}
        """Of the latest revisions, by their numbers."""

    async def check(
        self,
        text: str,
        *,
        base: Revision | None = None,
        checks: Sequence[Check] = (),
        allow_disruption: bool = False,
        name: str = CANDIDATE,
        by_api: bool = False,
        ask: bool = True,
        dry_run: bool = False,
    ) -> Candidate:
        """Check a config, with further `checks`. Raises ConfigError.

        `base` is the revision that the candidate is compared with; None: the head. `name` is that
        of the config in errors. `by_api`: a caller of the API has written it. Then canaries with
        steps keep the percentages that it leaves out. `ask`: whether sources of endpoints are
        asked, which uses the rights of the control plane. `dry_run`: the candidate is not to be
        applied. Then no other waits for it, and what is kept of the head, so that the next edit
        costs little, stays.
        """
        admit = None
        if by_api:
            in_force = await self._base_config(base or await self.store.head())
            admit = partial(self._check_outside, in_force)
        reading = await self._read(text, name, admit, keep=not dry_run)
        if by_api:
            kept = await asyncio.to_thread(
                with_kept_percents, text, reading.loaded.config, in_force
            )
            if kept != text:
                reading = await self._read(kept, name, admit, keep=not dry_run)
        candidate = await self.check_reading(
            reading,
            base=base,
            checks=checks,
            allow_disruption=allow_disruption,
            ask=ask,
            dry_run=dry_run,
        )
        if by_api and not allow_disruption:
            candidate.check_certificates()
        return candidate

    async def check_reading(
        self,
        reading: Reading,
        *,
        base: Revision | None = None,
        checks: Sequence[Check] = (),
        allow_disruption: bool = False,
        ask: bool = True,
        dry_run: bool = False,
    ) -> Candidate:
        """As `check`, for a config that was read already."""
        loaded = reading.loaded
        if not allow_disruption:
            await self._check_change(loaded, base)
        compiled = await self._compile(loaded, ask=ask, dry_run=dry_run)
        for check in (*self._checks, *checks):
            await asyncio.to_thread(check, loaded, compiled)
        base = base or await self.store.head()
        changes = await asyncio.to_thread(
            config_changes, await self._base_config(base), loaded.config
        )
        number = None if base is None else base.number
        return Candidate(reading, compiled, number, tuple(changes))

    async def _check_change(self, loaded: LoadedConfig, base: Revision | None) -> None:
        """Compare a config with the one in force, and with the base, which may follow only now."""
        known = [self._running()]
        if base is not None:
            with suppress(ConfigError):  # an earlier release has written it
                known.append(await self.config_of(base))
        for each in known:
            if each is not None:
                await asyncio.to_thread(check_change, each, loaded.config, loaded.place)

    async def apply(
        self,
        candidate: Candidate,
        *,
        author: str,
        reason: str,
        origin: str,
        expected: int | None,
        nodes: float | None = None,
    ) -> Revision:
        """Append a candidate to the history. Its rollout follows.

        `expected` is the number of the head (0: none); None: any. `nodes` is the share of the
        Envoys that get it first; None: as its config says. Raises ConflictError,
        StoreUnavailableError, or FileSourceError.
        """
        self.check_writable()
        new = draft(candidate.text, candidate.version, author, reason, origin)
        return await self._append(candidate, replace(new, nodes=nodes), expected)

    def check_writable(self) -> None:
        """Raises FileSourceError if only edits of the config file can change the config."""
        if self._file is not None:
            raise FileSourceError(str(self._file))

    async def apply_file(self, candidate: Candidate, origin: str) -> Revision | None:
        """Append an edit of the watched file to the history.

        None if it is there already: another control plane, whose file has the same path, has
        appended it. A second revision would end the judgement of the first, and undo what was
        written after it.
        """
        new = draft(candidate.text, candidate.version, FILE_AUTHOR, "", origin)
        while True:
            head = await self.store.head()
            if await last_text(self.store, origin) == candidate.text:
                return None
            # Another control plane may append the same edit now.
            with suppress(ConflictError):
                return await self._append(candidate, new, 0 if head is None else head.number)

    async def roll_back(
        self, rejected: int, good: LoadedConfig | None, reason: str
    ) -> Revision | None:
        """Append the config `good`, which was in force before a revision that has failed.

        None as `good`: the control plane has started with the rejected revision. Then the revision
        before it is restored, unless the rejected one is a rollback itself.

        None if nothing is to be done: another revision has replaced the rejected one, or the config
        is a file, whose text stays as it is until somebody edits it.
        """
        if self._file is not None:
            return None
        restored = await self._restored(rejected, good, rejection(rejected, reason))
        if restored is None:
            return None
        try:
            return await self.store.append(restored, expected=rejected)
        except ConflictError:
            return None

    async def _restored(
        self, rejected: int, good: LoadedConfig | None, reason: str
    ) -> Draft | None:
        if good is not None:
            if good.revision == rejected:
                return None  # a file that the config names has changed, not the config
            bad = await self.store.revision(rejected)
            if bad is not None and bad.origin == ROLLBACK and bad.text == good.text:
                return None  # a node that rejects everything must not fill the history
            return draft(good.text, good.policy.version, AUTHOR, reason, ROLLBACK)
        bad = await self.store.revision(rejected)
        before = await self.store.revision(rejected - 1)
        if bad is None or before is None or bad.origin == ROLLBACK:
            return None
        return draft(before.text, before.version, AUTHOR, reason, ROLLBACK)

    async def load(self, revision: Revision, *, again: bool = False) -> Reading:
        """Read the config of a revision, and the files that it names.

        A candidate that was applied in this process is not read again, unless `again` is set.
        """
        reading = None if again else self._readings.get(revision.number)
        if reading is None:
            reading = await self._read(revision.text, revision_name(revision.number))
        return reading.of_revision(revision.number)

    async def read_again(self, loaded: LoadedConfig) -> Reading:
        """Read the config of a revision again, and the files that it names, without the store."""
        assert loaded.revision is not None
        reading = await self._read(loaded.text, revision_name(loaded.revision))
        return reading.of_revision(loaded.revision)

    async def config_of(self, revision: Revision) -> GatewayConfig:
        """The config of a revision, without the files that it names.

        Raises ConfigError if this release cannot read it.
        """
        if revision.number not in self._configs:
            name = revision_name(revision.number)
            # An old revision must not replace what is kept of the head.
            keep = revision.number > max(self._configs, default=0)
            read = partial(self._reader.read, revision.text, name, keep=keep)
            config, _ = await self._in_thread(read, keep=keep)
            self._configs = _with_latest(self._configs, revision.number, config)
            return config
        return self._configs[revision.number]

    async def _base_config(self, base: Revision | None) -> GatewayConfig:
        if base is None:
            return GatewayConfig()
        try:
            return await self.config_of(base)
        except ConfigError:
            # An earlier release has written it. The candidate is compared with nothing.
            return GatewayConfig()

    def _check_outside(self, in_force: GatewayConfig, config: GatewayConfig, place: Place) -> None:
        check_outside(config, in_force, self._directory, self._folder, place)

    async def _read(
        self,
        text: str,
        name: str,
        admit: Callable[[GatewayConfig, Place], None] | None = None,
        *,
        keep: bool = True,
    ) -> Reading:
        read = partial(
            read_config,
            self._reader,
            lambda: _bounded(text, name),
            name,
            self._directory,
            admit=admit,
            keep=keep,
        )
        return await self._in_thread(read, keep=keep)

    async def _in_thread(self, read: Callable[[], T], *, keep: bool) -> T:
        """Read a config. Without `keep`, no other read waits for this one."""
        if not keep:
            return await asyncio.to_thread(read)
        async with self._reader_free:
            return await asyncio.to_thread(read)

    async def _append(self, candidate: Candidate, new: Draft, expected: int | None) -> Revision:
        revision = await self.store.append(new, expected=expected)
        self._readings = _with_latest(self._readings, revision.number, candidate.reading)
        self._configs = _with_latest(self._configs, revision.number, candidate.loaded.config)
        return revision


def _bounded(text: str, name: str) -> str:
    """The text. Raises ConfigError if the store could not keep it: an edit may lengthen it."""
    if len(text.encode()) > MAX_TEXT:
        message = f"the config is larger than {MAX_TEXT >> 20} MiB: remove models, or shorten it"
        raise ConfigError([Problem(name, 0, "", message)])
    return text


def revision_name(number: int) -> str:
    """The name of a revision in errors, where a config file has its path."""
    return f"revision {number}"


def is_automatic_rollback(revision: RevisionInfo) -> bool:
    """Whether the control plane has appended the revision because another one has failed."""
    return revision.origin == ROLLBACK and revision.author == AUTHOR


def file_origin(file: Path) -> str:
    """The origin of revisions that are edits of a file."""
    return printable(f"file {file.absolute()}", MAX_NAME)


async def last_text(store: Store, origin: str) -> str | None:
    """The text of the latest revision with this origin; None if there is none."""
    before: int | None = None
    while infos := await store.history(before, MAX_HISTORY):
        number = next((each.number for each in infos if each.origin == origin), None)
        if number is not None:
            revision = await store.revision(number)
            return None if revision is None else revision.text
        before = infos[-1].number
    return None


def draft(text: str, version: str, author: str, reason: str, origin: str) -> Draft:
    """The draft of a revision, with texts that are safe to show."""
    return Draft(
        text,
        version,
        printable(author, MAX_NAME),
        printable(reason, MAX_REASON),
        printable(origin, MAX_NAME),
    )


def _with_latest(known: Mapping[int, T], number: int, value: T) -> dict[int, T]:
    """The values of the latest revisions, with one more."""
    values = {**known, number: value}
    return {each: values[each] for each in sorted(values)[-_KEPT:]}
