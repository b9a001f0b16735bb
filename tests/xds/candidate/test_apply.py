"""A candidate that passes every check becomes a revision; any other changes nothing."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sluice.config import ConfigError, GatewayConfig, Problem
from sluice.config.changes import Change
from sluice.config.checked import LoadedConfig
from sluice.contract.history import AUTHOR, ROLLBACK
from tests.certificates import certificate, private_key
from xds.candidate.apply import Applier, FileSourceError
from xds.protocol.resource_types import CLUSTER, ENDPOINT
from xds.resources.compiled import CompiledConfig, compile_config
from xds.sources.store.sqlite import SqliteStore
from xds.sources.store.store import ConflictError

pytestmark = pytest.mark.anyio

MODELS = """\
models:
  a:  # the first
    versions: {v1: {endpoints: [{address: '127.0.0.1:9'}]}}
"""
OTHER = MODELS.replace("9'", "10'")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Plane:
    """An applier over a store in memory. `running` is the config in force, as text."""

    def __init__(self, directory: Path, file: Path | None = None) -> None:
        self.running: GatewayConfig | None = None
        self.compiled = 0
        self.store = SqliteStore()
        self.applier = Applier(
            self.store, directory, self._compile, lambda: self.running, file=file, folder=directory
        )

    async def _compile(self, loaded: LoadedConfig, *, ask: bool, dry_run: bool) -> CompiledConfig:
        self.compiled += 1
        return compile_config(loaded, loaded.config, keep=not dry_run)

    async def apply(
        self, text: str, *, expected: int | None = None, allow_disruption: bool = False
    ) -> int:
        candidate = await self.applier.check(text, allow_disruption=allow_disruption)
        revision = await self.applier.apply(
            candidate, author="ann", reason="why", origin="api", expected=expected
        )
        self.running = candidate.loaded.config
        return revision.number

    async def error(self, text: str) -> str:
        with pytest.raises(ConfigError) as refused:
            await self.applier.check(text)
        return str(refused.value)


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    plane = Plane(tmp_path)
    yield plane
    await plane.store.close()


async def test_a_candidate_tells_its_changes_and_warnings_and_applies_nothing(plane: Plane) -> None:
    await plane.apply(MODELS)
    candidate = await plane.applier.check(OTHER)
    path = ("models", "a", "versions", "v1", "endpoints", 0, "address")
    assert candidate.changes == (Change(path, "127.0.0.1:9", "127.0.0.1:10"),)
    assert candidate.base == 1
    assert candidate.version == candidate.loaded.policy.version
    assert any(problem.code == "no_credentials" for problem in candidate.warnings)
    head = await plane.store.head()
    assert head is not None
    assert (head.number, head.text) == (1, MODELS)


async def test_a_candidate_is_compared_with_the_base_that_is_given(plane: Plane) -> None:
    await plane.apply(MODELS)
    await plane.apply(OTHER)
    base = await plane.store.revision(1)
    candidate = await plane.applier.check(MODELS, base=base)
    assert (candidate.base, candidate.changes) == (1, ())


async def test_an_applied_candidate_is_a_revision_with_its_text(plane: Plane) -> None:
    candidate = await plane.applier.check(MODELS)
    assert candidate.base is None
    revision = await plane.applier.apply(
        candidate, author="ann\n", reason="a\x1b[0m", origin="api", expected=0, nodes=0.1
    )
    assert (revision.author, revision.reason) == ("ann\\n", "a\\x1b[0m")
    assert revision.nodes == 0.1
    assert (revision.text, revision.version) == (MODELS, candidate.version)
    assert await plane.store.head() == revision


async def test_a_candidate_on_an_old_head_is_refused(plane: Plane) -> None:
    await plane.apply(MODELS)
    candidate = await plane.applier.check(OTHER)
    await plane.apply(OTHER)
    with pytest.raises(ConflictError, match="revision 2"):
        await plane.applier.apply(
            candidate, author="ann", reason="", origin="api", expected=candidate.base
        )


async def test_an_invalid_candidate_is_refused_with_its_line(plane: Plane) -> None:
    assert "config:3: models.a.versions.v1" in await plane.error(MODELS.replace("endp", "emdp"))
    assert plane.compiled == 0


async def test_a_candidate_that_the_store_could_not_keep_is_refused(plane: Plane) -> None:
    assert "larger than 16 MiB" in await plane.error(MODELS + "#" * (16 << 20))


async def test_a_change_that_cuts_off_clients_is_refused(plane: Plane) -> None:
    await plane.apply(MODELS)
    error = await plane.error("listener:\n  address: 127.0.0.1:1\n")
    assert "config:2: listener.address: this change would move the listener" in error
    assert "config:1: models: this change would remove every model (a)" in error
    assert "set allow_disruption: true" in error
    await plane.applier.check("allow_disruption: true")
    await plane.applier.check("{}", allow_disruption=True)


async def test_a_change_is_compared_with_a_base_that_is_not_in_force_yet(plane: Plane) -> None:
    plane.running = GatewayConfig()
    await plane.apply(MODELS)
    plane.running = GatewayConfig()
    with pytest.raises(ConfigError, match="would remove every model"):
        await plane.applier.check("{}", base=await plane.store.head())


async def test_further_checks_see_the_compiled_config_and_refuse_it(plane: Plane) -> None:
    seen: list[str | None] = []

    def check(loaded: LoadedConfig, compiled: CompiledConfig) -> None:
        seen.append(compiled.snapshot.version)
        if "b" in loaded.config.models:
            raise ConfigError([Problem("", 0, "models.b", "no model may have this name")])

    candidate = await plane.applier.check(MODELS, checks=[check])
    assert seen == [candidate.version]
    with pytest.raises(ConfigError, match="no model may have this name"):
        await plane.applier.check(MODELS.replace("a:", "b:"), checks=[check])


async def test_a_gateway_whose_config_is_a_file_refuses_writes(tmp_path: Path) -> None:
    plane = Plane(tmp_path, tmp_path / "gateway.yaml")
    with pytest.raises(FileSourceError, match=r"gateway.yaml: edit the file, or start .* --store"):
        await plane.apply(MODELS)
    candidate = await plane.applier.check(MODELS)
    revision = await plane.applier.apply_file(candidate, "file gateway.yaml")
    assert (revision.author, revision.origin) == ("file", "file gateway.yaml")
    assert await plane.applier.roll_back(1, candidate.loaded, "") is None
    await plane.store.close()


async def test_a_rejected_revision_is_replaced_by_the_config_before_it(plane: Plane) -> None:
    await plane.apply(MODELS)
    await plane.apply(OTHER)
    head = await plane.store.revision(1)
    assert head is not None
    good = (await plane.applier.load(head)).loaded
    restored = await plane.applier.roll_back(2, good, "node envoy: no such filter")
    assert restored is not None
    assert (restored.number, restored.text, restored.version) == (3, MODELS, good.policy.version)
    assert (restored.author, restored.origin) == (AUTHOR, ROLLBACK)
    assert restored.reason == "revision 2 is rejected: node envoy: no such filter"


async def test_a_rejected_revision_that_was_replaced_needs_no_rollback(plane: Plane) -> None:
    for text in (MODELS, OTHER, MODELS):
        await plane.apply(text)
    good = (await plane.applier.check(MODELS)).loaded
    assert await plane.applier.roll_back(2, good, "") is None
    assert len(await plane.store.history(None, 10)) == 3


async def test_a_start_with_a_rejected_revision_restores_the_one_before_once(plane: Plane) -> None:
    await plane.apply(MODELS)
    assert await plane.applier.roll_back(1, None, "") is None
    await plane.apply(OTHER)
    restored = await plane.applier.roll_back(2, None, "")
    assert restored is not None
    assert restored.text == MODELS
    assert await plane.applier.roll_back(3, None, "") is None


async def test_an_edit_of_one_of_many_models_reads_only_this_model(plane: Plane) -> None:
    line = "  m{0}: {{versions: {{v1: {{endpoints: [{{address: '127.0.0.1:{1}'}}]}}}}}}\n"
    text = "models:\n" + "".join(line.format(n, 1) for n in range(50))
    await plane.apply(text)
    before = (await plane.applier.check(text)).loaded.config.models
    edited = text.replace(line.format(7, 1), line.format(7, 2))
    candidate = await plane.applier.check(edited)
    after = candidate.loaded.config.models
    assert [name for name in before if before[name] is not after[name]] == ["m7"]
    assert [change.path[1] for change in candidate.changes] == ["m7"]


async def test_a_dry_run_of_another_config_leaves_the_next_edit_cheap(plane: Plane) -> None:
    await plane.apply(MODELS)
    before = await plane.applier.check(MODELS)
    other = MODELS.replace("a:", "b:")
    dry = await plane.applier.check(other, dry_run=True, allow_disruption=True)
    assert set(dry.loaded.config.models) == {"b"}
    after = await plane.applier.check(MODELS + "limits: {}\n")
    assert after.loaded.config.models["a"] is before.loaded.config.models["a"]
    for resource_type in (CLUSTER, ENDPOINT):
        old, new = (
            each.compiled.snapshot.types[resource_type].resources for each in (before, after)
        )
        assert new["a/v1"] is old["a/v1"]


async def test_the_config_of_an_old_revision_leaves_the_next_edit_cheap(plane: Plane) -> None:
    for text in (MODELS.replace("a:", "b:"), MODELS, OTHER, MODELS + "limits: {}\n"):
        await plane.apply(text, allow_disruption=True)
    before = (await plane.applier.check(MODELS)).loaded.config
    old = await plane.store.revision(1)
    assert old is not None
    assert set((await plane.applier.config_of(old)).models) == {"b"}
    after = (await plane.applier.check(MODELS)).loaded.config
    assert after.models["a"] is before.models["a"]


async def test_concurrent_candidates_do_not_mix(plane: Plane) -> None:
    await plane.apply(MODELS)
    texts = [MODELS.replace("9'", f"{port}'") for port in range(100, 110)]
    candidates = await asyncio.gather(*map(plane.applier.check, texts))
    assert [each.text for each in candidates] == texts
    assert len({each.version for each in candidates}) == len(texts)


LISTENER = "listener: {tls: {certificate: a.pem, private_key: key.pem}}\n"


async def test_a_change_may_not_name_an_expired_certificate(plane: Plane, tmp_path: Path) -> None:
    (tmp_path / "b.pem").write_bytes(certificate())
    (tmp_path / "a.pem").write_bytes(certificate(end=datetime.now(UTC) - timedelta(1)))
    (tmp_path / "key.pem").write_bytes(private_key())
    await plane.apply(LISTENER.replace("a.pem", "b.pem") + MODELS)
    where = "config:1: listener.tls.certificate: a certificate in the file has expired on "
    with pytest.raises(ConfigError) as refused:
        await plane.applier.check(LISTENER + MODELS, by_api=True)
    assert str(refused.value).startswith(where)
    assert await plane.applier.check(LISTENER + MODELS, by_api=True, allow_disruption=True)
    restored = await plane.applier.check(LISTENER + MODELS)
    with pytest.raises(ConfigError):
        restored.check_certificates()


async def test_a_certificate_that_expires_stops_no_other_change(
    plane: Plane, tmp_path: Path
) -> None:
    (tmp_path / "key.pem").write_bytes(private_key())
    (tmp_path / "a.pem").write_bytes(certificate())
    await plane.apply(LISTENER + MODELS)
    (tmp_path / "a.pem").write_bytes(certificate(end=datetime.now(UTC) - timedelta(1)))
    candidate = await plane.applier.check(LISTENER + OTHER, by_api=True)
    assert "certificate_expired" in [warning.code for warning in candidate.warnings]


STEPS = """\
models:
  a:
    stable: v1
    versions: {v1: &v {endpoints: [{address: '127.0.0.1:9'}]}, v2: *v}
    canaries:
      - version: v2
        steps: [{percent: 5, duration: 1m}, {percent: 50, duration: 1m}]
"""


async def test_an_edit_by_api_leaves_the_percentage_of_steps_as_it_is(plane: Plane) -> None:
    async def percent(text: str, *, by_api: bool = True) -> float:
        candidate = await plane.applier.check(text, by_api=by_api)
        (canary,) = candidate.loaded.config.models["a"].canaries
        return canary.percent

    await plane.apply(STEPS)
    assert await percent(STEPS) == 0
    await plane.apply(STEPS + "        percent: 5\n")
    assert await percent(STEPS) == 5
    again = await plane.applier.check(STEPS, by_api=True)
    assert again.changes == ()
    assert await percent(STEPS.replace("50", "60")) == 5
    # Somebody has chosen these.
    assert await percent(STEPS + "        percent: 20\n") == 20
    assert await percent(STEPS, by_api=False) == 0
    assert (
        await percent(
            STEPS.replace("version: v2", "version: v1").replace("stable: v1", "stable: v2")
        )
        == 0
    )
