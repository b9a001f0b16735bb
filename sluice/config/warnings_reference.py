"""Generates docs/reference/warnings.md from the kinds of warnings."""

from collections.abc import Iterable
from typing import Final

from sluice.config.analysis import FAILING_HEALTH_CHECK, RULES
from sluice.config.checked import EMPTY_KEY_SET
from sluice.config.endpoints import NO_ENDPOINTS, OUTDATED_ENDPOINTS
from sluice.config.finding import WarningKind
from sluice.config.named_files import WARNINGS as FILE_WARNINGS
from sluice.config.resolution import UNRESOLVABLE_HOST

_KINDS: Final = (*(rule.kind for rule in RULES), EMPTY_KEY_SET, *FILE_WARNINGS)
_OF_A_RUNNING_GATEWAY: Final = (
    UNRESOLVABLE_HOST,
    FAILING_HEALTH_CHECK,
    OUTDATED_ENDPOINTS,
    NO_ENDPOINTS,
)

CODES: Final = tuple(kind.code for kind in (*_KINDS, *_OF_A_RUNNING_GATEWAY))
"""The names of all kinds of warnings."""

_HEAD = """# Warnings

Generated from `sluice/config` by `make docs`.

A config with a warning is valid and is applied, but a part of it does not do what its author wants.
Each warning names file, line and key, says what to change, and ends with the name of its kind.

- `sluice validate` prints all warnings. It exits with 0; with `--strict`, it exits with 1 if there
  are warnings. `--ignore KIND` permits a kind of warnings.
- The log of the control plane has the warnings of a new config, except those that the config before
  had too.
- `sluice status` shows the warnings about the version in force.
"""


def reference() -> str:
    """The reference page, as Markdown."""
    return "\n".join(
        [
            _HEAD,
            "## Of the config and its files",
            "",
            *_table(_KINDS),
            "",
            "## Of hosts and endpoints",
            "",
            "`sluice validate` asks DNS for at most 3 seconds, unless `--ignore unresolvable_host` "
            "is set. `sluice status` shows\nwhat the Envoys see.",
            "",
            *_table(_OF_A_RUNNING_GATEWAY),
            "",
        ]
    )


def _table(kinds: Iterable[WarningKind]) -> list[str]:
    rows = [f"| `{kind.code}` | {kind.when} | {kind.remedy} |" for kind in kinds]
    return ["| kind | when | remedy |", "|---|---|---|", *rows]


if __name__ == "__main__":
    print(reference(), end="")
