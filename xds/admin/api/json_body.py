"""Reads the JSON of a body. Two readers must not understand a body differently."""

import json
import re
from typing import Final

from sluice.config.document import MAX_DEPTH, MAX_NODES
from xds.admin.api.problems import ProblemError, Reason

MAX_VALUES: Final = MAX_NODES
"""Values of a body: as many as a config in YAML may have. Each takes much more memory than text."""

MAX_INPUT_VALUES: Final = 10_000
"""Values of a body with fixed members: more than a request that is explained has."""


def read_json(body: bytes, max_values: int = MAX_VALUES) -> object:
    """The JSON value of a body. Raises ProblemError, which says where it is wrong."""
    try:
        if _bound_of_values(body) > max_values:
            raise _ValueError(f"it has more than {max_values} values")
        # The parser would also take UTF-16 and UTF-32.
        text = body.decode()
        value = json.loads(text, object_pairs_hook=_distinct, parse_constant=_no_constant)
        _check_value(value)
        return value
    except UnicodeDecodeError:
        raise ProblemError(Reason.INVALID_BODY, "the body is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        detail = f"the body is not valid JSON: {error.msg} in {place}"
        raise ProblemError(Reason.INVALID_BODY, detail) from None
    except (ValueError, RecursionError) as error:
        known = str(error) if isinstance(error, _ValueError) else "a value is too large or too deep"
        raise ProblemError(Reason.INVALID_BODY, f"the body is not valid JSON: {known}") from None


def _bound_of_values(body: bytes) -> int:
    """At least the number of values and of names of members, found without parsing them.

    A value follows a comma, a colon, an opening bracket or the beginning. Those in texts count
    too: a text that has so many is no part of a config.
    """
    return 1 + sum(map(body.count, (b",", b":", b"[", b"{")))


def _check_value(value: object) -> None:
    """Raises ValueError for a value that the config cannot have, at any level."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        if not level:
            return
        inner: list[object] = []
        for each in level:
            if isinstance(each, dict):
                inner += [*each.keys(), *each.values()]
            elif isinstance(each, list):
                inner += each
            elif isinstance(each, str) and _SURROGATE.search(each) is not None:
                raise _ValueError("a text has half of a surrogate pair")
        level = inner
    raise _ValueError(f"the values are nested more than {MAX_DEPTH} levels deep")


_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class _ValueError(ValueError):
    """A value that JSON does not allow, or that two readers would understand differently."""


def _distinct(members: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(members)
    if len(found) < len(members):
        raise _ValueError("a member occurs twice")
    return found


def _no_constant(name: str) -> object:
    raise _ValueError(f"{name} is no number in JSON")
