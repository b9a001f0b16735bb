"""File edits and writes by API become revisions, and what the history has is rolled out."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from protos.base_pb2 import Node as NodeMessage
from sluice.config import ConfigError
from sluice.config.gateway import ControlPlane
from sluice.config.mcp import Mcp
from sluice.config.rollout import RolloutCriteria
from sluice.contract.history import AUTHOR, ROLLBACK
from tests.redis_server import RedisServer
from tests.xds.rollout.nodes_in_memory import Client, callout, native_envoy
from tests.xds.rollout.stages import StageVerdict
from xds.candidate.apply import FileSourceError, draft, file_origin
from xds.candidate.start import StartOptions, first_config
from xds.delivery.plans import BeginStage, BeginTrial
from xds.envoys.observations import Observations
from xds.pipeline import Pipeline, start_pipeline
from xds.protocol import resource_types
from xds.protocol.nodes import Nodes
from xds.rollout.rollout import Rollout
from xds.rollout.stage import StageView
from xds.sources.key_sets import FetchedKeySets
from xds.sources.store.redis import RedisStore
from xds.sources.store.sqlite import SqliteStore
from xds.sources.store.store import Record, RevisionInfo, Store, StoreError, StoreUnavailableError
from xds.state import ControlPlaneState

pytestmark = pytest.mark.anyio

JWKS = json.dumps({"keys": []})
WITH_KEYS = """\
auth:
  issuers:
    - {issuer: i, audiences: [a], algorithms: [RS256], jwks_file: jwks.json}
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def config(*models: str, more: str = "") -> str:
    model = "  {}: {{versions: {{v1: {{endpoints: [{{address: '127.0.0.1:9'}}]}}}}}}\n"
    return more + "models:\n" + "".join(map(model.format, models))


class Plane:
    """A control plane without its servers, and one Envoy."""

    def __init__(self, store: Store, nodes: Nodes, rollout: Rollout, pipeline: Pipeline) -> None:
        self.store = store
        self.rollout = rollout
        self.nodes = nodes
        self.pipeline = pipeline
        self.applier = pipeline.applier
        self.state = ControlPlaneState("name", pipeline.compiled, nodes, rollout, Observations())
        self.envoy = native_envoy(nodes)
        extensions = pipeline.compiled.snapshot.types[resource_types.EXTENSION].resources
        self.envoy.names[resource_types.EXTENSION] = tuple(extensions)
        self.named: dict[str, Client] = {}

    def connect(self, *names: str) -> None:
        """Connect further Envoys, which say who they are, and a worker."""
        for name in names:
            client = native_envoy(self.nodes, name)
            client.names[resource_types.EXTENSION] = self.envoy.names[resource_types.EXTENSION]
            self.nodes.identify(client.node, NodeMessage(id=name))
            self.named[name] = client
        self.named["worker"] = callout(self.nodes)

    @property
    def staged(self) -> dict[str, str | None]:
        """The Envoys that say who they are, with the versions that they have."""
        versions = {name: each.node.version for name, each in self.named.items()}
        return {name: version for name, version in versions.items() if name != "worker"}

    @property
    def in_force(self) -> tuple[int | None, set[str]]:
        """The revision in force and the clusters of the Envoy."""
        found = self.envoy.resources.get(resource_types.CLUSTER, set())
        models = {name.removesuffix("/v1") for name in found if name.endswith("/v1")}
        return self.state.revision, models

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                for client in (self.envoy, *self.named.values()):
                    client.receive()
                await asyncio.sleep(0.001)

    async def until_staged(self) -> StageView:
        """Wait for a stage."""
        await self.until(lambda: self.rollout.stage is not None)
        assert self.rollout.stage is not None
        return self.rollout.stage

    async def until_in_force(self, revision: int, *models: str) -> None:
        wanted = revision, set(models)
        await self.until(lambda: self.in_force == wanted and self.rollout.in_sync)

    async def write(
        self, text: str, expected: int | None = None, nodes: float | None = None
    ) -> int:
        candidate = await self.applier.check(text)
        revision = await self.applier.apply(
            candidate, author="ann", reason="", origin="api", expected=expected, nodes=nodes
        )
        return revision.number

    async def history(self) -> list[RevisionInfo]:
        return (await self.store.history(None, 100))[::-1]


@asynccontextmanager
async def running(
    options: StartOptions,
    store: Store | None = None,
    begin_trial: BeginTrial | None = None,
    begin_stage: BeginStage | None = None,
) -> AsyncIterator[Plane]:
    opened = store or SqliteStore()
    nodes = Nodes(lambda: 0.0)
    rollout = Rollout(nodes, 60.0)
    first = await first_config(options, opened)
    pipeline = await start_pipeline(
        options,
        opened,
        first,
        rollout,
        FetchedKeySets(),
        begin_trial=begin_trial,
        begin_stage=begin_stage,
    )
    plane = Plane(opened, nodes, rollout, pipeline)
    tasks = [
        asyncio.create_task(rollout.run()),
        asyncio.create_task(pipeline.run(plane.state, rollout)),
    ]
    try:
        yield plane
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await opened.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.yaml"
    write(path, config("a"))
    return path


def write(path: Path, text: str) -> None:
    path.write_text(text)


def replace(path: Path, text: str) -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(text)
    draft.replace(path)


def stored(path: Path, **options: Path) -> StartOptions:
    return StartOptions(options.get("config"), f"sqlite:{path}", options.get("watch"))


async def test_edits_of_a_config_file_become_revisions_in_memory(file: Path) -> None:
    async with running(StartOptions(file)) as plane:
        await plane.until_in_force(1, "a")
        replace(file, config("a", "b"))
        await plane.until_in_force(2, "a", "b")
        replace(file, config("a", "b") + "nonsense: 1\n")
        await plane.until(lambda: plane.state.error is not None)
        assert "gateway.yaml:4: nonsense" in str(plane.state.error)
        replace(file, config("b"))
        await plane.until_in_force(3, "b")
        assert [(each.author, each.origin) for each in await plane.history()] == [
            ("file", file_origin(file))
        ] * 3
        with pytest.raises(FileSourceError):
            await plane.write(config("b", "c"))


async def test_a_named_file_that_changes_is_rolled_out_without_a_revision(file: Path) -> None:
    keys = file.parent / "jwks.json"
    keys.write_text(JWKS)
    write(file, config("a", more=WITH_KEYS))
    async with running(StartOptions(file)) as plane:
        await plane.until_in_force(1, "a")
        version = plane.rollout.version
        replace(keys, JWKS + "\n")
        await plane.until(lambda: plane.rollout.version != version)
        replace(keys, "{")
        await plane.until(lambda: plane.state.error is not None)
        assert plane.state.reads["refused"] == 1
        assert len(await plane.history()) == 1
        replace(keys, JWKS)
        await plane.until(lambda: plane.state.error is None)
        assert plane.in_force[0] == 1


async def test_an_edit_that_needs_a_missing_file_is_applied_when_the_file_comes(file: Path) -> None:
    async with running(StartOptions(file)) as plane:
        await plane.until_in_force(1, "a")
        replace(file, config("b", more="allow_disruption: true\n" + WITH_KEYS))
        await plane.until(lambda: plane.state.error is not None)
        replace(file.parent / "jwks.json", JWKS)
        await plane.until_in_force(2, "b")


async def test_writes_are_rolled_out_and_survive_the_process(tmp_path: Path, file: Path) -> None:
    path = tmp_path / "history.db"
    async with running(stored(path, config=file), SqliteStore(path)) as plane:
        await plane.until_in_force(1, "a")
        await plane.write(config("a", "b"), expected=1)
        await plane.until_in_force(2, "a", "b")
        # The file has been used to begin the history, and not any more.
        replace(file, config("c"))
    async with running(stored(path, config=file), SqliteStore(path)) as plane:
        await plane.until_in_force(2, "a", "b")
        assert [each.origin for each in await plane.history()] == [file_origin(file), "api"]


async def test_a_watched_file_and_writes_share_one_history(tmp_path: Path, file: Path) -> None:
    path = tmp_path / "history.db"
    async with running(stored(path, watch=file), SqliteStore(path)) as plane:
        await plane.until_in_force(1, "a")
        await plane.write(config("a", "b"), expected=1)
        await plane.until_in_force(2, "a", "b")
        replace(file, config("a", "c"))
        await plane.until_in_force(3, "a", "c")
        await plane.write(config("d", "a"), expected=3)
        await plane.until_in_force(4, "a", "d")
    # A file that nobody has edited since does not undo later writes.
    async with running(stored(path, watch=file), SqliteStore(path)) as plane:
        await plane.until_in_force(4, "a", "d")
        replace(file, config("a", "e"))
        await plane.until_in_force(5, "a", "e")


async def test_a_file_that_is_first_watched_with_the_text_of_the_head_undoes_no_later_write(
    tmp_path: Path, file: Path
) -> None:
    path = tmp_path / "history.db"
    async with running(stored(path, config=file), SqliteStore(path)) as plane:
        await plane.write(config("b"), expected=1)
    write(file, config("b"))
    async with running(stored(path, watch=file), SqliteStore(path)) as plane:
        await plane.until_in_force(3, "b")
        await plane.write(config("b", "c"), expected=3)
    async with running(stored(path, watch=file), SqliteStore(path)) as plane:
        await plane.until_in_force(4, "b", "c")


async def test_an_edit_while_no_control_plane_runs_is_applied_at_the_start(
    tmp_path: Path, file: Path
) -> None:
    path = tmp_path / "history.db"
    async with running(stored(path, watch=file), SqliteStore(path)) as plane:
        await plane.until_in_force(1, "a")
    write(file, "models: [")
    async with running(stored(path, watch=file), SqliteStore(path)) as plane:
        await plane.until_in_force(1, "a")
    write(file, config("b"))
    async with running(stored(path, watch=file), SqliteStore(path)) as plane:
        await plane.until_in_force(2, "b")
        assert (await plane.history())[1].reason == "edited while no control plane was running"


async def test_a_rejected_revision_is_rolled_back_by_a_new_one(tmp_path: Path, file: Path) -> None:
    path = tmp_path / "history.db"
    async with running(stored(path, config=file), SqliteStore(path)) as plane:
        await plane.until_in_force(1, "a")
        plane.envoy.rejects = "bad/v1"
        await plane.write(config("a", "bad"), expected=1)
        await plane.until_in_force(3, "a")
        rollback = (await plane.history())[2]
        assert (rollback.author, rollback.origin) == (AUTHOR, ROLLBACK)
        assert rollback.reason.startswith("revision 2 is rejected: ")
        assert "bad/v1 is invalid" in rollback.reason
        head = await plane.store.head()
        assert head is not None
        assert head.text == config("a")
        # The failure is shown until another change is in force.
        assert "bad/v1 is invalid" in str(plane.state.error)
        await plane.write(config("a", "good"), expected=3)
        await plane.until_in_force(4, "a", "good")
        assert plane.state.error is None


class Worse:
    """A trial that finds that a change is worse."""

    def start(self) -> None: ...

    def failure(self) -> str:
        return "model a: 50 % of 200 requests failed"


WATCHED = "rollout: {watch: 60s}\n"


async def test_a_revision_that_is_worse_is_rolled_back_unless_it_is_applied_again(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xds.rollout.watch.TICK", 0.01)
    path, begun = tmp_path / "history.db", list[RolloutCriteria]()

    def begin(criteria: RolloutCriteria) -> Worse:
        begun.append(criteria)
        return Worse()

    worse = config("a", "worse", more=WATCHED)
    async with running(stored(path, config=file), SqliteStore(path), begin) as plane:
        await plane.until_in_force(1, "a")
        await plane.write(worse, expected=1)
        await plane.until_in_force(3, "a")
        rollback = (await plane.history())[2]
        assert (rollback.author, rollback.origin) == (AUTHOR, ROLLBACK)
        assert rollback.reason == "revision 2 is rejected: model a: 50 % of 200 requests failed"
        assert plane.state.error == "model a: 50 % of 200 requests failed"
        await plane.write(worse, expected=3)
        await plane.until_in_force(4, "a", "worse")
        assert (len(begun), plane.rollout.watched) == (1, None)
        await plane.write(config("a", "another", more=WATCHED), expected=4)
        await plane.until_in_force(6, "a", "worse")


async def test_a_config_file_that_is_worse_is_not_followed_until_its_next_edit(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xds.rollout.watch.TICK", 0.01)
    async with running(StartOptions(file), begin_trial=lambda _: Worse()) as plane:
        await plane.until_in_force(1, "a")
        replace(file, config("a", "b", more=WATCHED))
        await plane.until(lambda: "50 % of 200" in str(plane.state.error))
        await plane.until_in_force(1, "a")
        replace(file, config("a", "c"))
        await plane.until_in_force(3, "a", "c")


SOAKED = "rollout: {nodes: 0.1, soak: 600s}\n"
ENVOYS = ("envoy-1", "envoy-2", "envoy-3")


async def test_a_write_for_a_share_of_the_envoys_reaches_the_others_after_the_soak(
    tmp_path: Path, file: Path
) -> None:
    path = tmp_path / "history.db"
    async with running(stored(path, config=file), SqliteStore(path)) as plane:
        plane.connect(*ENVOYS)
        await plane.until_in_force(1, "a")
        before = plane.rollout.version
        await plane.write(config("a", "b", more="rollout: {soak: 1s}\n"), nodes=0.1)
        stage = await plane.until_staged()
        assert (stage.revision, stage.begun, stage.share, len(stage.nodes)) == (2, 2, 0.1, 1)
        assert plane.state.revision == 1
        await plane.until(lambda: plane.staged[stage.nodes[0]] == stage.version)
        assert list(plane.staged.values()).count(before) == 2
        await plane.until_in_force(2, "a", "b")
        assert set(plane.staged.values()) == {stage.version}
        assert [each.nodes for each in await plane.history()] == [None, 0.1]


@pytest.mark.parametrize("also_staged", [True, False])
async def test_a_named_file_that_changes_in_a_stage_reaches_the_other_envoys_too(
    tmp_path: Path, file: Path, also_staged: bool
) -> None:
    keys, path = tmp_path / "jwks.json", tmp_path / "history.db"
    for each in (keys, tmp_path / "other.json"):
        each.write_text(JWKS)
    write(file, config("a", more=WITH_KEYS))
    async with running(stored(path, config=file), SqliteStore(path)) as plane:
        plane.connect(*ENVOYS)
        await plane.until_in_force(1, "a")
        before = plane.rollout.version
        more = WITH_KEYS if also_staged else WITH_KEYS.replace("jwks.json", "other.json")
        await plane.write(config("a", "b", more=SOAKED + more))
        stage = await plane.until_staged()
        (staged,) = stage.nodes
        await plane.until(lambda: plane.staged[staged] == stage.version)
        replace(keys, JWKS + "\n")
        await plane.until(lambda: before not in plane.staged.values())
        await plane.until(lambda: (plane.staged[staged] != stage.version) == also_staged)
        await plane.until(lambda: plane.rollout.in_sync)
        again = plane.rollout.stage
        assert again is not None
        assert (again.nodes, again.revision) == (stage.nodes, 2)
        others = {version for name, version in plane.staged.items() if name != staged}
        assert others == {plane.rollout.version}
        assert plane.state.revision == 1


async def test_a_stage_that_is_worse_is_rolled_back_by_a_revision(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xds.rollout.stage.TICK", 0.01)
    path, trials = tmp_path / "history.db", list[StageVerdict]()

    def begin(_: RolloutCriteria) -> StageVerdict:
        trials.append(StageVerdict())
        return trials[-1]

    options, store = stored(path, config=file), SqliteStore(path)
    async with running(options, store, begin_stage=begin) as plane:
        plane.connect(*ENVOYS)
        await plane.until_in_force(1, "a")
        await plane.write(config("a", "b", more=SOAKED))
        await plane.until_staged()
        trials[0].reason = "model a: 50 % of 200 requests failed"
        await plane.until_in_force(3, "a")
        rollback = (await plane.history())[2]
        assert (rollback.author, rollback.origin) == (AUTHOR, ROLLBACK)
        assert rollback.reason == f"revision 2 is rejected: {trials[0].reason}"
        assert plane.state.error == trials[0].reason
        assert (trials[0].ended, len(trials)) == (1, 1)
        assert set(plane.staged.values()) == {plane.rollout.version}


async def test_a_control_plane_that_starts_in_a_stage_goes_on_with_it(
    tmp_path: Path, file: Path
) -> None:
    path = tmp_path / "history.db"
    async with running(stored(path, config=file), SqliteStore(path)) as plane:
        plane.connect(*ENVOYS)
        await plane.until_in_force(1, "a")
        await plane.write(config("a", "b", more=SOAKED))
        stage, before = await plane.until_staged(), plane.rollout.version
        record: list[Record] = []
        while not record:
            record = await plane.store.records("stage")
    async with running(stored(path, config=file), SqliteStore(path)) as plane:
        plane.connect(*ENVOYS)
        await plane.until(lambda: plane.rollout.stage is not None and plane.rollout.in_sync)
        again = plane.rollout.stage
        assert again is not None
        assert (again.nodes, again.begun) == (stage.nodes, 2)
        assert again.remaining < 600
        assert (plane.rollout.version, plane.state.revision) == (before, 1)
        assert plane.staged[stage.nodes[0]] == stage.version
        assert plane.state.config.models.keys() == {"a", "b"}
        # The others never have another config than the one in force.
        assert {each for name, each in plane.staged.items() if name not in stage.nodes} == {before}
        await plane.write(config("a", "c"), expected=2)
        await plane.until_in_force(3, "a", "c")


async def test_envoys_of_a_stage_that_no_store_knows_are_chosen_when_they_are_back(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xds.delivery.follow.CONNECT", 0.05)
    path = tmp_path / "history.db"
    async with running(stored(path, config=file), SqliteStore(path)) as plane:
        await plane.until_in_force(1, "a")
        candidate = await plane.applier.check(config("a", "b", more=SOAKED))
    store = SqliteStore(path)
    await store.append(draft(candidate.text, candidate.version, "ann", "", "api"), expected=1)
    async with running(stored(path, config=file), store) as plane:
        plane.connect(*ENVOYS)
        assert len((await plane.until_staged()).nodes) == 1
        assert plane.state.revision == 1


async def test_a_config_file_that_failed_in_its_stage_has_one_again_whatever_its_age(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xds.rollout.stage.TICK", 0.01)
    keys, trials = file.parent / "jwks.json", list[StageVerdict]()
    keys.write_text(JWKS)

    def begin(_: RolloutCriteria) -> StageVerdict:
        trials.append(StageVerdict())
        return trials[-1]

    short = SOAKED.replace("600s", "1s")
    async with running(StartOptions(file), begin_stage=begin) as plane:
        plane.connect(*ENVOYS)
        await plane.until_in_force(1, "a")
        replace(file, config("a", "b", more=short + WITH_KEYS + "allow_disruption: true\n"))
        await plane.until_staged()
        trials[0].reason = "worse"
        await plane.until_in_force(1, "a")
        (failed,) = [each for each in await plane.history() if each.number == 2]
        await plane.until(lambda: time.time() > failed.at + 1)
        replace(keys, JWKS + "\n")
        await plane.until(lambda: len(trials) == 2 and plane.rollout.stage is not None)
        assert plane.state.revision == 1


async def test_a_control_plane_undoes_its_stage_when_another_one_finds_the_change_worse(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xds.rollout.stage.TICK", 0.01)
    monkeypatch.setattr("xds.sources.store.sqlite.POLL_INTERVAL", 0.05)
    options, verdict = stored(tmp_path / "history.db", config=file), StageVerdict()
    stores = [SqliteStore(tmp_path / "history.db") for _ in range(2)]
    async with (
        running(options, stores[0], begin_stage=lambda _: verdict) as one,
        running(options, stores[1]) as two,
    ):
        for plane in (one, two):
            plane.connect(*ENVOYS)
            await plane.until_in_force(1, "a")
        await one.write(config("a", "b", more=SOAKED))
        for plane in (one, two):
            await plane.until(lambda plane=plane: plane.rollout.stage is not None)
        verdict.reason = "worse"
        for plane in (one, two):
            await plane.until_in_force(3, "a")
            assert plane.rollout.stage is None
            assert len(await plane.history()) == 3


async def test_a_node_that_rejects_everything_makes_one_rollback(
    tmp_path: Path, file: Path
) -> None:
    """A rogue client rejects each config while it is rolled out, also the one that is restored."""
    path = tmp_path / "history.db"
    async with running(stored(path, config=file), SqliteStore(path)) as plane:
        await plane.until_in_force(1, "a")
        await plane.write(config("a", "b"), expected=1)
        for _ in range(5):
            for _ in range(300):
                if plane.rollout.step not in (None, "queued"):
                    break
                await asyncio.sleep(0.001)
            rogue = native_envoy(plane.nodes, automatic=False)
            rogue.receive()
            rogue.rejects = "a/v1"
            for response in rogue.waiting:
                rogue.acknowledge(response)
            await plane.until(lambda: plane.rollout.step is None)
        assert [each.origin for each in await plane.history()][2:] == [ROLLBACK]


async def test_a_start_with_a_rejected_revision_restores_the_one_before(
    tmp_path: Path, file: Path
) -> None:
    path = tmp_path / "history.db"
    async with running(stored(path, config=file), SqliteStore(path)) as plane:
        await plane.write(config("a", "bad"), expected=1)
    async with running(stored(path), SqliteStore(path)) as plane:
        plane.envoy.rejects = "bad/v1"
        await plane.until_in_force(3, "a")


async def test_a_rejected_edit_of_a_config_file_stays_in_the_history(file: Path) -> None:
    async with running(StartOptions(file)) as plane:
        await plane.until_in_force(1, "a")
        plane.envoy.rejects = "bad/v1"
        replace(file, config("a", "bad"))
        await plane.until(lambda: "bad/v1 is invalid" in str(plane.state.error))
        replace(file, config("a", "b"))
        await plane.until_in_force(3, "a", "b")


async def test_a_start_with_an_empty_store_needs_a_config(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"the store memory is empty: give a CONFIG"):
        async with running(StartOptions(None, "memory")):
            pass


async def test_a_head_that_cannot_be_read_ends_the_start_with_its_revision(
    tmp_path: Path, file: Path
) -> None:
    path, keys = tmp_path / "history.db", tmp_path / "jwks.json"
    keys.write_text(JWKS)
    write(file, config("a", more=WITH_KEYS))
    async with running(stored(path, config=file), SqliteStore(path)):
        pass
    keys.unlink()
    with pytest.raises(ConfigError, match=r"revision 1:3: auth.issuers.0.jwks_file: .*jwks.json"):
        async with running(stored(path, config=file), SqliteStore(path)):
            pass


async def test_control_planes_that_start_together_share_the_first_revision(
    tmp_path: Path, file: Path
) -> None:
    path, options = tmp_path / "history.db", stored(tmp_path / "history.db", config=file)
    async with (
        running(options, SqliteStore(path)) as one,
        running(options, SqliteStore(path)) as two,
    ):
        await one.until_in_force(1, "a")
        await two.until_in_force(1, "a")
        await two.write(config("a", "b"), expected=1)
        await one.until_in_force(2, "a", "b")
        assert len(await one.history()) == 2


async def test_control_planes_that_watch_one_file_make_one_revision_of_an_edit(
    tmp_path: Path, file: Path
) -> None:
    path, options = tmp_path / "history.db", stored(tmp_path / "history.db", watch=file)
    async with (
        running(options, SqliteStore(path)) as one,
        running(options, SqliteStore(path)) as two,
    ):
        await one.until_in_force(1, "a")
        for number, name in enumerate("bcdefghi", start=2):
            replace(file, config("a", name))
            await one.until_in_force(number, "a", name)
            await two.until_in_force(number, "a", name)
        replace(file, "models: [")
        await one.until(lambda: one.state.error is not None and two.state.error is not None)
        # The text of the latest edit again: nothing has changed, and nothing is wrong any more.
        replace(file, config("a", "i"))
        await one.until(lambda: one.state.error is None and two.state.error is None)
        assert len(await one.history()) == 9


async def test_a_control_plane_that_sees_an_edit_late_does_not_undo_a_later_write(
    tmp_path: Path, file: Path
) -> None:
    # In Kubernetes, the nodes of two pods update a mounted ConfigMap at different times.
    path, options = tmp_path / "history.db", stored(tmp_path / "history.db", watch=file)
    async with running(options, SqliteStore(path)) as plane:
        await plane.until_in_force(1, "a")
        edit = config("a", "b")
        await plane.store.append(draft(edit, "1", "file", "", file_origin(file)), expected=1)
        await plane.write(config("a", "c"), expected=2)
        await plane.until_in_force(3, "a", "c")
        accepted = plane.state.reads["accepted"]
        replace(file, edit)
        await plane.until(lambda: plane.state.reads["accepted"] > accepted)
        replace(file, config("a", "d"))
        await plane.until_in_force(4, "a", "d")


class Refusing(SqliteStore):
    """A store whose appends fail while `refuses` is set."""

    refuses = False
    refused = 0

    async def append(self, draft, *, expected):  # type: ignore[no-untyped-def]
        if self.refuses:
            self.refused += 1
            raise StoreUnavailableError("the store does not respond")
        return await super().append(draft, expected=expected)


async def test_an_edit_and_a_rollback_wait_for_the_store(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xds.candidate.watch.RETRY_INTERVAL", 0.01)
    monkeypatch.setattr("xds.delivery.latest_write.RETRY_INTERVAL", 0.01)
    path = tmp_path / "history.db"
    store = Refusing(path)
    async with running(stored(path, watch=file), store) as plane:
        await plane.until_in_force(1, "a")
        plane.envoy.rejects = "bad/v1"
        await plane.write(config("a", "bad"), expected=1)
        store.refuses = True
        await plane.until(lambda: "bad/v1 is invalid" in str(plane.state.error))
        store.refuses = False
        await plane.until_in_force(3, "a")
        store.refuses = True
        refused = store.refused
        replace(file, config("a", "b"))
        await plane.until(lambda: store.refused > refused + 1)
        assert plane.in_force == (3, {"a"})
        store.refuses = False
        await plane.until_in_force(4, "a", "b")


async def test_replicas_on_redis_follow_each_other_and_serve_on_without_redis(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xds.sources.store.redis.POLL_INTERVAL", 0.05)
    server = RedisServer(tmp_path, "--appendonly", "yes")
    server.start()
    stores = [RedisStore(server.url, environment={}) for _ in range(2)]
    options = StartOptions(file, server.url)
    async with running(options, stores[0]) as one, running(options, stores[1]) as two:
        await one.until_in_force(1, "a")
        await one.write(config("a", "b"), expected=1)
        await one.until_in_force(2, "a", "b")
        await two.until_in_force(2, "a", "b")
        sent = [plane.envoy.nodes.snapshot for plane in (one, two)]
        assert sent[0].version == sent[1].version
        assert sent[0].has_same_resources(sent[1])
        server.kill()
        with pytest.raises(StoreUnavailableError, match="check Redis"):
            await two.write(config("c", "a"))
        assert two.in_force == (2, {"a", "b"})
        server.start()
        await two.write(config("a", "c"), expected=2)
        await two.until_in_force(3, "a", "c")
        await one.until_in_force(3, "a", "c")
    server.kill()


def test_an_option_cannot_open_to_other_machines_what_the_config_does_not() -> None:
    local = ControlPlane(xds="127.0.0.1:1", http="127.0.0.1:2")
    assert StartOptions(None, xds="127.0.0.1:3").addresses(local) == ("127.0.0.1:3", "127.0.0.1:2")
    with pytest.raises(ConfigError, match=r"--http: other machines can reach 0.0.0.0:4"):
        StartOptions(None, http="0.0.0.0:4").addresses(local)
    everywhere = ControlPlane(xds="0.0.0.0:1", http="127.0.0.1:2")
    assert StartOptions(None, xds="0.0.0.0:3").addresses(everywhere)[0] == "0.0.0.0:3"


def test_an_option_gives_the_server_for_istiod_another_address() -> None:
    mcp = Mcp(address="127.0.0.1:1")
    assert StartOptions(None).mcp_address(mcp) == "127.0.0.1:1"
    assert StartOptions(None, mcp="127.0.0.1:2").mcp_address(mcp) == "127.0.0.1:2"
    assert StartOptions(None).mcp_address(None) is None
    with pytest.raises(ConfigError, match=r"--mcp: other machines can reach 0.0.0.0:2"):
        StartOptions(None, mcp="0.0.0.0:2").mcp_address(mcp)
    with pytest.raises(ConfigError, match=r"--mcp: the config has no istio.mcp"):
        StartOptions(None, mcp="127.0.0.1:2").mcp_address(None)
