"""The conditions for every native admission, whatever the model: one entry each in `CONDITIONS`.

A request that does not meet one of them takes the callout's route. Envoy compares them in order, so
the cheapest that most requests do not meet comes first.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sluice.config.placement import is_item, is_plain
from sluice.contract.headers import AUTHORIZATION
from sluice.contract.paths import OIP_OPERATIONS, OIP_PREFIX, READ_OPERATIONS
from xds.resources import token_headers
from xds.resources.native.base64_text import spellings
from xds.resources.native.lists import (
    TEXT_LIKE_A_LIST,
    contains_text,
    is_list,
    is_unreadable,
)
from xds.resources.native.predicates import (
    Predicate,
    all_of,
    any_of,
    is_exactly,
    is_present,
    matches,
    negated,
)

BEARER: Final = "Bearer "
"""What stands before a token."""

_CRITICAL: Final = (*spellings('"crit"'), *spellings('"b64"'), *spellings(r"\u00"))
r"""Texts of which one occurs in every token whose header has a member `crit` (RFC 7515 section
4.1.11), or `b64`, by which a signature may be that of a payload without base64 (RFC 7797). `\u00`
begins every escape of an ASCII letter."""


@dataclass(frozen=True, slots=True)
class NativeIssuer:
    """An issuer whose tokens Envoy verifies: the header with their audience, and its audiences."""

    audience_header: str
    audiences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Callers:
    """How callers identify themselves: what the conditions for credentials depend on.

    `token`: a regular expression of the tokens that Envoy and the callout read alike.
    """

    api_key_header: str
    issuers: tuple[NativeIssuer, ...]
    token: str


Condition = Callable[[Callers], Predicate]


def _subject_is_its_header_value(_: Callers) -> Predicate:
    """The callout escapes all other subjects in the header for the model server."""
    return matches(token_headers.SUBJECT, "[!-$&-~](?:[ -$&-~]*[!-$&-~])?")


def _authorization_is_one_token(callers: Callers) -> Predicate:
    """The token filter also accepts text before and after the token, and a second header."""
    return matches(AUTHORIZATION, f"{BEARER}{callers.token}")


def _token_is_unambiguous(_: Callers) -> Predicate:
    """The token filter ignores `crit`, which says that a verifier must not ignore something.

    It also writes text like a list into a header as it writes a list.
    """
    found = "|".join((*_CRITICAL, TEXT_LIKE_A_LIST))
    # The signature comes after the last point, and may be any bytes.
    return negated(matches(AUTHORIZATION, rf"\C*(?:{found})\C*\.\C*"))


def _audience_is_one_of_the_issuer(callers: Callers) -> Predicate:
    """The token filter also accepts an audience with another scheme or with a slash at its end."""
    return any_of(map(_audience, callers.issuers))


def _audience(issuer: NativeIssuer) -> Predicate:
    header = issuer.audience_header
    texts = [is_exactly(header, value) for value in issuer.audiences if is_plain(value)]
    items = [contains_text(header, value) for value in issuer.audiences if is_item(value)]
    if items:
        readable = negated(is_unreadable([header]))
        texts.append(all_of((is_list(header), any_of(items), readable)))
    return any_of(texts)


def _no_authorization(_: Callers) -> Predicate:
    return negated(is_present(AUTHORIZATION))


def _no_api_key(callers: Callers) -> Predicate:
    return negated(is_present(callers.api_key_header))


def _no_upgrade(_: Callers) -> Predicate:
    return negated(is_present("upgrade"))


_ASCII: Final = "[!-~]*"

_SEGMENT: Final = "[!-.0->@-~]+"


_OPERATION: Final = (
    rf"{OIP_PREFIX}{_SEGMENT}/(?:versions/{_SEGMENT}/)?"
    rf"(?:{'|'.join(sorted(OIP_OPERATIONS - READ_OPERATIONS))})"
)
_ABOVE_OPERATIONS: Final = rf"{OIP_PREFIX}{_SEGMENT}(?:/versions(?:/{_SEGMENT})?)?"


def operation_path() -> Predicate:
    """The target is an operation of a model or of one of its versions, in printable ASCII.

    Which model and version it is, the matchers of paths find out. One regular expression for all
    models takes much less memory than one for each.
    """
    return matches(":path", rf"{_OPERATION}(?:\?{_ASCII})?")


def is_operation(path: str) -> bool:
    """Whether `operation_path` matches this path."""
    return re.fullmatch(_OPERATION, path) is not None


def is_above_operations(path: str) -> bool:
    """Whether `operation_path` matches some path below this one."""
    return re.fullmatch(_ABOVE_OPERATIONS, path) is not None


def target_is_ascii() -> Predicate:
    """The callout refuses other bytes, which are possible in a query."""
    return matches(":path", _ASCII)


TOKEN_CONDITIONS: Final[tuple[Condition, ...]] = (
    _subject_is_its_header_value,
    _audience_is_one_of_the_issuer,
    _authorization_is_one_token,
    _token_is_unambiguous,
)
"""Conditions for a caller with a token."""

ANONYMOUS_CONDITIONS: Final[tuple[Condition, ...]] = (_no_authorization,)
"""Conditions for a caller without credentials."""

CONDITIONS: Final[tuple[Condition, ...]] = (
    _no_api_key,
    _no_upgrade,
)
"""Conditions for every caller."""


def admissible(callers: Callers, *, public: bool) -> Predicate:
    """What every native admission needs. `public`: some model has anonymous callers."""
    kinds = []
    if callers.issuers:
        kinds.append(_all(TOKEN_CONDITIONS, callers))
    if public:
        kinds.append(_all(ANONYMOUS_CONDITIONS, callers))
    return all_of((any_of(kinds), *(each(callers) for each in CONDITIONS)))


def _all(conditions: tuple[Condition, ...], callers: Callers) -> Predicate:
    return all_of(each(callers) for each in conditions)
