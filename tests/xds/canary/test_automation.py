"""The loop that moves canaries, over the real pipeline and store, with the clock of the test."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from sluice.contract.history import ROLLBACK
from tests.xds.rollout.nodes_in_memory import callout
from xds.canary import automation
from xds.canary.analysis import Phase, State
from xds.canary.automation import CanaryAnalysis
from xds.canary.planes import DROP_AFTER
from xds.canary.records import CanaryRecords, Stored
from xds.candidate.apply import Applier
from xds.candidate.start import StartOptions, first_config
from xds.envoys.observations import Observations
from xds.envoys.reporters import Comparison, Counts
from xds.events import Events
from xds.pipeline import start_pipeline
from xds.protocol.nodes import Nodes
from xds.rollout.rollout import Rollout
from xds.sources.key_sets import FetchedKeySets
from xds.sources.store.sqlite import SqliteStore
from xds.sources.store.store import ConflictError, Draft, Revision, StoreUnavailableError
from xds.state import ControlPlaneState

pytestmark = pytest.mark.anyio

STEPS = [{"percent": percent, "duration": 5} for percent in (10, 50)]
PUBLIC = {"access": {"public": True}}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def config(more: object = None, **model: object) -> str:
    versions = {name: {"endpoints": [{"address": "127.0.0.1:9"}]} for name in ("v1", "v2")}
    canary = {
        "version": "v2", "headers": [], "steps": STEPS, "criteria": {"min_requests": 10},
    }  # fmt: skip
    echo = {
        "stable": "v1", "versions": versions, "canaries": [canary], **PUBLIC, **model,
    }  # fmt: skip
    sections: dict[str, Any] = more if isinstance(more, dict) else {}
    return yaml.safe_dump({"models": {"m": echo}, **sections})


class UnreliableStore(SqliteStore):
    """A store in memory. `fails` names the methods that fail now; `refused` gets their calls.

    `before_append` is called once before the next revision is appended.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fails: frozenset[str] = frozenset()
        self.refused = asyncio.Queue[str]()
        self.appended = asyncio.Queue[int]()
        self.before_append: Callable[[], Awaitable[object]] | None = None

    async def append(self, draft: Draft, *, expected: int | None) -> Revision:
        self._check("append")
        meanwhile, self.before_append = self.before_append, None
        if meanwhile is not None:
            await meanwhile()
        revision = await super().append(draft, expected=expected)
        self.appended.put_nowait(revision.number)
        return revision

    async def put_record(self, key: str, value: bytes, *, expected: int | None) -> Any:
        self._check("put_record")
        return await super().put_record(key, value, expected=expected)

    def _check(self, method: str) -> None:
        if method in self.fails:
            self.refused.put_nowait(method)
            raise StoreUnavailableError("the store does not respond")


class Plane:
    """A control plane without servers, with one node, which also reports traffic."""

    def __init__(self, gateway: "Gateway", name: str) -> None:
        self.nodes = Nodes(lambda: gateway.now)
        self.rollout = Rollout(self.nodes, 60.0, sleep=_at_once)
        self.observations = Observations()
        self.decisions = Counter[str]()
        self._gateway, self._name = gateway, name

    async def start(self, stack: AsyncExitStack) -> None:
        options = StartOptions(None, store="memory", directory=self._gateway.directory)
        store = self._gateway.store
        first = await first_config(options, store)
        pipeline = await start_pipeline(options, store, first, self.rollout, FetchedKeySets())
        self.applier: Applier = pipeline.applier
        state = ControlPlaneState(
            "memory", pipeline.compiled, self.nodes, self.rollout, self.observations
        )
        self.node = callout(self.nodes)
        clock = self._gateway.clock
        self.analysis = CanaryAnalysis(
            self.applier, self.rollout, self.observations, Events(), self._name,
            decisions=self.decisions, monotonic=clock, now=clock,
        )  # fmt: skip
        for work in (self.rollout.run(), pipeline.run(state, self.rollout)):
            task = asyncio.create_task(work)
            stack.callback(task.cancel)
        await self.settle()
        self.worker = self.observations.join("worker", self._name, clock())

    async def settle(self) -> None:
        """Wait until the head of the history is in force."""
        async with asyncio.timeout(60):
            while not await self._is_settled():
                self.node.receive()
                await asyncio.sleep(0)

    async def _is_settled(self) -> bool:
        head, in_force = await self._gateway.store.head(), self.rollout.in_force
        same = head is not None and in_force is not None and in_force.revision == head.number
        return same and self.rollout.in_sync

    async def write(self, text: str) -> None:
        """A change by an operator."""
        candidate = await self.applier.check(text)
        await self.applier.apply(
            candidate, author="ann", reason="", origin="api", expected=candidate.base
        )


async def _at_once(_: float) -> None:
    pass


class Gateway:
    """Control planes over one store. `traffic` is what each sees of v2 every two seconds."""

    def __init__(self, directory: Path, stack: AsyncExitStack) -> None:
        self.now = 1000.0
        self.store = UnreliableStore()
        self.directory = directory
        self.traffic = Counts(20, 0)
        self.planes: list[Plane] = []
        self._stack = stack

    def clock(self) -> float:
        return self.now

    async def begin(self, text: str) -> None:
        await self.store.append(Draft(text, "v", "ann", "", "api"), expected=0)

    async def join(self, name: str = "one") -> Plane:
        plane = Plane(self, name)
        await plane.start(self._stack)
        self.planes.append(plane)
        return plane

    async def turn(self, count: int = 1) -> None:
        """Each control plane gets reports and takes a turn, every two seconds."""
        for _ in range(count):
            self.now += 2
            for plane in self.planes:
                await plane.settle()
                plane.worker.report(self.now, {"m/v2": self.traffic, "m/v1": Counts(20, 0)})
                await plane.analysis.turn()
            for plane in self.planes:
                await plane.settle()

    async def turn_until(self, phase: Phase) -> State:
        for _ in range(40):
            await self.turn()
            found = await self.state()
            if found is not None and found.phase is phase:
                return found
        raise AssertionError(f"{await self.stored()}")

    async def stored(self) -> Stored | None:
        return (await CanaryRecords(self.store).get("m", "v2")).stored

    async def state(self) -> State | None:
        found = await self.stored()
        return None if found is None else found.state

    async def history(self) -> list[str]:
        """What the revisions since the first have done, oldest first."""
        found = (await self.store.history(None, 100))[::-1]
        told = (each.reason.partition("canary v2 ")[2].split(":")[0] for each in found)
        return [text or each.origin for text, each in zip(told, found, strict=True)][1:]


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with AsyncExitStack() as stack:
        gateway = Gateway(tmp_path, stack)
        yield gateway
    await gateway.store.close()


async def test_a_canary_goes_through_its_steps_and_is_promoted(gateway: Gateway) -> None:
    await gateway.begin(config())
    plane = await gateway.join()
    await gateway.turn_until(Phase.PROMOTED)
    assert await gateway.history() == ["gets 10 %", "gets 50 %", "is promoted"]
    assert plane.decisions == {"set": 2, "promote": 1}


async def test_a_failing_canary_is_aborted_in_its_step(gateway: Gateway) -> None:
    await gateway.begin(config())
    await gateway.join()
    gateway.traffic = Counts(20, 10)
    aborted = await gateway.turn_until(Phase.ABORTED)
    assert await gateway.history() == ["gets 10 %", "is aborted"]
    assert aborted.reason.startswith("10 % failed: 50 % of 20 requests failed")


async def test_answers_to_copies_end_a_canary_before_a_user_gets_it(
    gateway: Gateway,
) -> None:
    criteria = {"min_agreement": 0.9, "min_requests": 10}
    canary = {"version": "v2", "steps": [{"percent": 0, "duration": 5}], "criteria": criteria}
    copies = {"callout": {"copies": f"unix:{gateway.directory}/copies.sock"}}
    await gateway.begin(config(copies, mirror={"version": "v2"}, canaries=[canary]))
    await gateway.join()
    gateway.traffic = Counts(0, 0, comparison=Comparison(20, 10))
    aborted = await gateway.turn_until(Phase.ABORTED)
    assert await gateway.history() == ["gets 0 %", "is aborted"]
    assert aborted.reason == "0 % failed: 50 % of 20 copies agree, less than 90 %"


@pytest.mark.parametrize("method", ["append", "put_record"])
async def test_while_the_store_is_away_nothing_is_decided_and_nothing_is_lost(
    gateway: Gateway, method: str
) -> None:
    await gateway.begin(config())
    await gateway.join()
    await gateway.turn(2)
    gateway.store.fails = frozenset({method})
    with pytest.raises(StoreUnavailableError):
        await gateway.turn(10)
    with pytest.raises(StoreUnavailableError):
        await gateway.turn()
    assert await gateway.history() == ["gets 10 %"]
    gateway.store.fails = frozenset()
    await gateway.turn_until(Phase.PROMOTED)
    assert await gateway.history() == ["gets 10 %", "gets 50 %", "is promoted"]


async def test_an_outage_of_the_store_is_logged_once_and_does_not_end_the_loop(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(automation, "INTERVAL", 0)
    await gateway.begin(config())
    plane = await gateway.join()
    gateway.store.fails = frozenset({"put_record"})
    task = asyncio.create_task(plane.analysis.run())
    async with asyncio.timeout(60):
        for _ in range(3):
            await gateway.store.refused.get()
        gateway.store.fails = frozenset()
        while await gateway.store.appended.get() < 2:
            pass
    task.cancel()
    assert await gateway.history() == ["gets 10 %"]
    logged = [text for text in caplog.messages if "analysis of canaries waits" in text]
    assert logged == ["the analysis of canaries waits: the store does not respond"]


async def test_a_step_does_not_overwrite_a_change_that_was_made_meanwhile(
    gateway: Gateway,
) -> None:
    await gateway.begin(config())
    plane = await gateway.join()
    other = config(timeout=7)
    gateway.store.before_append = lambda: plane.write(other)
    with pytest.raises(ConflictError):
        await gateway.turn()
    await gateway.turn_until(Phase.PROMOTED)
    assert await gateway.history() == ["api", "gets 10 %", "gets 50 %", "is promoted"]
    head = await gateway.store.head()
    assert head is not None
    assert yaml.safe_load(head.text)["models"]["m"]["timeout"] == 7


async def test_a_step_that_a_node_rejects_is_rolled_back_and_not_tried_again(
    gateway: Gateway,
) -> None:
    await gateway.begin(config())
    plane = await gateway.join()
    plane.node.rejects = "policy"
    gateway.now += 2
    await plane.analysis.turn()
    async with asyncio.timeout(60):
        while plane.rollout.result is None or plane.rollout.result.failure is None:
            plane.node.receive()
            await asyncio.sleep(0)
    plane.node.rejects = None
    held = await gateway.turn_until(Phase.HELD)
    assert held.reason == "revision 3 has undone revision 2"
    await gateway.turn(20)
    assert await gateway.history() == ["gets 10 %", ROLLBACK]


async def test_a_step_that_an_operator_rolls_back_is_not_tried_again(gateway: Gateway) -> None:
    await gateway.begin(config())
    plane = await gateway.join()
    await gateway.turn(2)
    candidate = await plane.applier.check(config())
    await plane.applier.apply(
        candidate, author="ann", reason="", origin=ROLLBACK, expected=candidate.base
    )
    await gateway.turn(20)
    held = await gateway.state()
    assert held is not None
    assert (held.phase, held.reason) == (Phase.HELD, "revision 3 has undone revision 2")
    assert await gateway.history() == ["gets 10 %", ROLLBACK]


async def test_an_edit_that_leaves_the_percentage_out_lets_the_steps_go_on(
    gateway: Gateway,
) -> None:
    await gateway.begin(config())
    plane = await gateway.join()
    await gateway.turn(2)
    await plane.write(config(timeout=7))
    await gateway.turn_until(Phase.PROMOTED)
    assert await gateway.history() == [
        "gets 10 %", "api", "gets 10 %", "gets 50 %", "is promoted",
    ]  # fmt: skip


async def test_a_promotion_that_the_config_refuses_holds_the_canary(
    gateway: Gateway,
) -> None:
    assertion = {
        "name": "anonymous callers get v1", "caller": {"anonymous": True},
        "request": {"names_version": False}, "always": ["v1"],
    }  # fmt: skip
    await gateway.begin(config({"assert": [assertion]}))
    plane = await gateway.join()
    held = await gateway.turn_until(Phase.HELD)
    assert held.reason.startswith("the config refuses that it is promoted: ")
    assert "anonymous callers get v1" in held.reason
    await gateway.turn(20)
    assert await gateway.history() == ["gets 10 %", "gets 50 %"]
    assert plane.decisions == {"set": 2, "hold": 1}


async def test_one_of_two_control_planes_judges_what_both_have_seen(gateway: Gateway) -> None:
    await gateway.begin(config())
    one, two = await gateway.join("one"), await gateway.join("two")
    gateway.traffic = Counts(5, 0)
    await gateway.turn_until(Phase.PROMOTED)
    assert await gateway.history() == ["gets 10 %", "gets 50 %", "is promoted"]
    assert one.decisions == {"set": 2, "promote": 1}
    assert two.decisions == {}


async def test_a_control_plane_that_ends_is_replaced_by_another(gateway: Gateway) -> None:
    await gateway.begin(config())
    one, two = await gateway.join("one"), await gateway.join("two")
    await gateway.turn(2)
    gateway.planes.remove(one)
    ended = gateway.now
    while not two.decisions:
        await gateway.turn()
    assert gateway.now - ended >= DROP_AFTER
    await gateway.turn_until(Phase.PROMOTED)
    assert await gateway.history() == ["gets 10 %", "gets 50 %", "is promoted"]
    assert (one.decisions, two.decisions) == ({"set": 1}, {"set": 1, "promote": 1})


async def test_a_control_plane_that_restarts_goes_on_with_the_step(gateway: Gateway) -> None:
    await gateway.begin(config())
    while await gateway.history() != ["gets 10 %", "gets 50 %"]:
        gateway.planes = []
        await gateway.join()
        await gateway.turn(6)
    gateway.planes = []
    again = await gateway.join()
    await gateway.turn_until(Phase.PROMOTED)
    assert await gateway.history() == ["gets 10 %", "gets 50 %", "is promoted"]
    assert again.decisions == {"promote": 1}


async def test_a_decision_that_was_stored_is_carried_out_after_a_restart(
    gateway: Gateway,
) -> None:
    await gateway.begin(config())
    await gateway.join()
    gateway.traffic = Counts(20, 20)
    await gateway.turn(1)
    gateway.store.fails = frozenset({"append"})
    with pytest.raises(StoreUnavailableError):
        await gateway.turn(10)
    found = await gateway.state()
    assert found is not None
    assert found.phase is Phase.ABORTING
    gateway.store.fails, gateway.planes = frozenset(), []
    await gateway.join()
    await gateway.turn_until(Phase.ABORTED)
    assert await gateway.history() == ["gets 10 %", "is aborted"]
