"""Operations on the whole config."""

from starlette.responses import Response

from sluice.config import GatewayConfig
from sluice.config.placeholders import with_secrets
from sluice.config.redaction import redacted
from xds.admin.access import Role
from xds.admin.api.bodies import config_text, patch, patch_data, text_with_secrets, whole
from xds.admin.api.merge_patch import patched_config
from xds.admin.api.operations import JSON, YAML, Call, Deferred, Operation
from xds.admin.changes import ChangeResult, Difference, Validation
from xds.admin.edits import (
    CHANGE_ERRORS,
    CHECK_ERRORS,
    IF_MATCH,
    IF_NONE_MATCH,
    READ_ERRORS,
    CheckQuery,
    Edit,
    Edits,
    ReadQuery,
    WriteQuery,
)
from xds.admin.head import Head, shown


class ConfigOperations:
    """The handlers."""

    def __init__(self, edits: Edits) -> None:
        self._edits = edits

    def operations(self) -> tuple[Operation, ...]:
        """The operations on the whole config."""
        config = whole(GatewayConfig, "The config")
        return (
            Operation(
                "GET", "/v1/config", Role.READER,
                "The config of the last revision, without secrets", self._get, None, ReadQuery,
                errors=READ_ERRORS, headers=IF_NONE_MATCH, media_types=(JSON, YAML),
            ),
            Operation(
                "PUT", "/v1/config", Role.OPERATOR, "Replace the config",
                self._put, ChangeResult, WriteQuery, config, CHANGE_ERRORS, IF_MATCH,
            ),
            Operation(
                "PATCH", "/v1/config", Role.OPERATOR, "Change a part of the config",
                self._patch, ChangeResult, WriteQuery, patch("the config"), CHANGE_ERRORS,
                IF_MATCH,
            ),
            Operation(
                "POST", "/v1/config/validate", Role.READER, "Check a config without applying it",
                self._validate, Validation, CheckQuery,
                body=config, errors=CHECK_ERRORS,
            ),
            Operation(
                "POST", "/v1/config/diff", Role.READER,
                "Compare a config with that of the last revision",
                self._diff, Difference, CheckQuery,
                body=config, errors=CHECK_ERRORS,
            ),
        )  # fmt: skip

    async def _get(self, call: Call) -> Deferred:
        head, query = await self._edits.head(), call.query
        assert isinstance(query, ReadQuery)
        return Deferred(lambda: shown(call, head, redacted(head.config, defaults=query.defaults)))

    async def _put(self, call: Call) -> Response:
        return await self._edits.change(call, _replacement(call), lines=_has_lines(call))

    async def _patch(self, call: Call) -> Response:
        def edit(head: Head) -> str:
            filled = with_secrets(patch_data(call), head.config)
            assert isinstance(filled, dict)
            return patched_config(head.text, filled)

        return await self._edits.change(call, edit)

    async def _validate(self, call: Call) -> Validation:
        found = await self._diff(call)
        return Validation(version=found.version, warnings=found.warnings)

    async def _diff(self, call: Call) -> Difference:
        edit, lines = _replacement(call), _has_lines(call)
        candidate, head = await self._edits.check(call, edit, lines=lines)
        return Difference.of(candidate, head.revision.number)


def _replacement(call: Call) -> Edit:
    """The edit that puts the body in the place of the config."""
    return lambda head: text_with_secrets(config_text(call), head.config)


def _has_lines(call: Call) -> bool:
    """Whether the lines of errors are those of the body: JSON is written again as YAML."""
    return call.media_type != JSON
