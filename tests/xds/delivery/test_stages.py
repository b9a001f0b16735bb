"""Which revisions have a stage, by the history."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from sluice.config.rollout import RolloutSettings
from sluice.contract.history import AUTHOR, ROLLBACK
from xds.delivery.stages import StagedRevision, base_of, staged_revision
from xds.sources.store.sqlite import SqliteStore
from xds.sources.store.store import Draft, Revision

pytestmark = pytest.mark.anyio

SOAK = 60.0
STAGED = RolloutSettings(nodes=0.25, soak=SOAK)
AT_ONCE = RolloutSettings(soak=SOAK)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class History:
    """A history whose clock the test sets, in seconds."""

    now: float = 1000.0
    store: SqliteStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = SqliteStore(now=lambda: self.now)

    async def append(
        self, version: str, *, nodes: float | None = None, author: str = "ann", origin: str = "api"
    ) -> int:
        draft = Draft("{}", version, author, "", origin, nodes)
        return (await self.store.append(draft, expected=None)).number

    async def staged(
        self, number: int, settings: RolloutSettings = AT_ONCE
    ) -> StagedRevision | None:
        return await staged_revision(self.store, number, settings, self.now)

    async def share(self, number: int, settings: RolloutSettings = AT_ONCE) -> float | None:
        staged = await self.staged(number, settings)
        return None if staged is None else staged.share

    async def base(self, number: int, settings: RolloutSettings = AT_ONCE) -> int | None:
        async def settings_of(_: Revision) -> RolloutSettings:
            return settings

        staged = await self.staged(number, settings)
        assert staged is not None
        base = await base_of(self.store, staged, settings_of)
        return None if base is None else base.number


@pytest.fixture
async def history() -> AsyncIterator[History]:
    history = History()
    yield history
    await history.store.close()


async def test_a_revision_says_its_share_or_its_config_does(history: History) -> None:
    await history.append("first")
    said = await history.append("a", nodes=0.1)
    assert await history.share(said) == 0.1
    assert await history.share(said, STAGED) == 0.1
    unsaid = await history.append("b")
    assert await history.share(unsaid) is None
    assert await history.share(unsaid, STAGED) == 0.25
    assert await history.share(await history.append("c", nodes=1.0), STAGED) is None


async def test_a_stage_is_over_when_its_time_is(history: History) -> None:
    number = await history.append("a", nodes=0.1)
    history.now += SOAK - 1
    staged = await history.staged(number)
    assert staged is not None
    assert (staged.begun.number, staged.seconds) == (number, 1.0)
    history.now += 1
    assert await history.staged(number) is None


async def test_the_clock_of_another_control_plane_makes_no_stage_longer(history: History) -> None:
    number = await history.append("a", nodes=0.1)
    history.now -= 1000
    staged = await history.staged(number)
    assert staged is not None
    assert staged.seconds == SOAK


async def test_a_rollback_has_a_stage_only_if_the_operator_says_so(history: History) -> None:
    await history.append("a")
    plain = await history.append("b", origin=ROLLBACK)
    by_itself = await history.append("c", author=AUTHOR, origin=ROLLBACK)
    assert [await history.share(each, STAGED) for each in (plain, by_itself)] == [None, None]
    assert await history.share(await history.append("d", origin=ROLLBACK, nodes=0.5)) == 0.5


async def test_what_was_undone_and_is_applied_again_has_a_stage_only_if_said(
    history: History,
) -> None:
    await history.append("a", nodes=0.1)
    await history.append("first", author=AUTHOR, origin=ROLLBACK)
    assert await history.share(await history.append("a"), STAGED) is None
    await history.append("first", author=AUTHOR, origin=ROLLBACK)
    assert await history.share(await history.append("a", nodes=0.1)) == 0.1


async def test_the_steps_of_a_canary_go_on_with_the_stage_below_them(history: History) -> None:
    begun = await history.append("a", nodes=0.1)
    history.now += 20
    for version in ("b", "c"):
        step = await history.append(version, author=AUTHOR, origin="canary")
    staged = await history.staged(step)
    assert staged is not None
    assert (staged.begun.number, staged.share, staged.seconds) == (begun, 0.1, SOAK - 20)
    history.now += SOAK
    assert await history.share(await history.append("d", author=AUTHOR, origin="canary")) is None


async def test_the_base_of_a_stage_is_the_revision_before_it(history: History) -> None:
    await history.append("a")
    await history.append("b", nodes=0.1)
    step = await history.append("c", author=AUTHOR, origin="canary")
    assert await history.base(2) == 1
    assert await history.base(step) == 1


async def test_a_revision_that_was_replaced_in_its_stage_is_no_base(history: History) -> None:
    await history.append("a")
    for version in ("b", "c"):
        await history.append(version, nodes=0.1)
        history.now += SOAK - 1
    await history.append("d", nodes=0.1)
    assert await history.base(4) == 1
    history.now += SOAK
    await history.append("e", nodes=0.1)
    assert await history.base(5) == 4


async def test_after_a_stage_that_was_undone_the_rollback_is_the_base(history: History) -> None:
    await history.append("a")
    await history.append("b", nodes=0.1)
    await history.append("a", author=AUTHOR, origin=ROLLBACK)
    await history.append("c", nodes=0.1)
    assert await history.base(4) == 3


async def test_the_first_revision_has_no_base(history: History) -> None:
    assert await history.base(await history.append("a", nodes=0.1)) is None
