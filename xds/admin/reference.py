"""Generates docs/reference/admin-api.md from the operations and the reasons."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from sluice.config import GatewayConfig
from sluice.config.checked import LoadedConfig
from xds.admin.api.openapi import parameters
from xds.admin.api.operations import Operation
from xds.admin.api.problems import REASONS
from xds.admin.app import operations
from xds.admin.edits import Edits
from xds.candidate.apply import Applier
from xds.events import Events
from xds.protocol.nodes import Nodes
from xds.protocol.snapshot import EMPTY
from xds.resources.compiled import CompiledConfig
from xds.rollout.rollout import Rollout
from xds.sources.store.sqlite import SqliteStore
from xds.state import ControlPlaneState

_HEAD = """# Admin API: operations and reasons

Generated from `xds/admin` by `make docs`. `GET /v1/openapi.json` returns the OpenAPI document,
which also has the schemas of bodies and responses. [Admin API](../admin-api.md) has examples.
"""

MAX_NAMED = 3
"""Operations that the row of a parameter names."""

_REASONS = """## Reasons

A refusal is a problem document (RFC 9457) with the member `reason`. Besides these, the check of the
caller refuses requests with `unauthenticated` (401), `role_required` and `foreign_page` (403), and
of other hosts with `unknown_host` (421).

| reason | status | when |
|---|---|---|"""


def reference() -> str:
    """The reference page, as Markdown."""
    listed = _operations()
    lines = [_HEAD, "## Operations", "", "| operation | role | does |", "|---|---|---|"]
    lines += [_row(each) for each in listed]
    lines += ["", *_parameters(listed), _REASONS]
    lines += [f"| `{reason}` | {status} | {when} |" for reason, (status, when) in REASONS.items()]
    return "\n".join(lines) + "\n"


def _operations() -> tuple[Operation, ...]:
    """The operations of a control plane that does not run."""
    nodes = Nodes(lambda: 0.0)
    compiled = CompiledConfig(GatewayConfig(), EMPTY)
    state = ControlPlaneState("", compiled, nodes, Rollout(nodes, 0.0))

    async def compile_nothing(loaded: LoadedConfig, *, ask: bool, dry_run: bool) -> CompiledConfig:
        return compiled

    applier = Applier(SqliteStore(), Path(), compile_nothing, GatewayConfig)
    return operations(state, Edits(applier), Events(), None)


def _row(operation: Operation) -> str:
    role = operation.role or "everyone"
    description = f". {operation.description}" if operation.description else ""
    return f"| `{operation.method} {operation.path}` | {role} | {operation.summary}{description} |"


def _parameters(listed: Sequence[Operation]) -> Iterator[str]:
    yield "## Parameters"
    yield ""
    yield "| parameter | in | meaning | operations |"
    yield "|---|---|---|---|"
    by_parameter: dict[tuple[str, str, str], list[str]] = {}
    for operation in listed:
        for each in parameters(operation):
            key = str(each["name"]), str(each["in"]), str(each["description"])
            by_parameter.setdefault(key, []).append(f"`{operation.method} {operation.path}`")
    for (name, place, meaning), users in by_parameter.items():
        if place != "path":
            shown = ", ".join(users) if len(users) <= MAX_NAMED else f"{len(users)} operations"
            yield f"| `{name}` | {place} | {meaning} | {shown} |"
    yield ""


if __name__ == "__main__":
    print(reference(), end="")
