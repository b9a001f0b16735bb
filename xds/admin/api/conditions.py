"""Conditional requests (RFC 9110 section 13). The entity tag of the config is its revision."""

import re
from typing import Final

from xds.admin.api.problems import ProblemError, Reason

_TAG: Final = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_TAGS: Final = re.compile(rf"\*|{_TAG}(?:[ \t]*,[ \t]*{_TAG})*")


def entity_tag(revision: int) -> str:
    """The entity tag of a revision, such as `"17"`."""
    return f'"{revision}"'


def expected_revision(if_match: str | None, head: int) -> int | None:
    """The revision that a change is based on; None if the caller does not say.

    `head` is the number of the last revision. Raises ProblemError if it is not among those of the
    header `If-Match`.
    """
    if if_match is None:
        return None
    tags = _tags("If-Match", if_match)
    if tags is None:
        return head
    # Strong comparison: a weak tag never matches (RFC 9110 section 8.8.3.2).
    if entity_tag(head) not in tags:
        raise conflict(head)
    return head


def is_unchanged(if_none_match: str | None, head: int) -> bool:
    """Whether the client has this revision already, according to `If-None-Match`."""
    if if_none_match is None:
        return False
    tags = _tags("If-None-Match", if_none_match)
    return tags is None or entity_tag(head) in {tag.removeprefix("W/") for tag in tags}


def conflict(head: int) -> ProblemError:
    """The refusal of a change that is based on another revision than the head."""
    detail = f"the config has changed: the last revision is {head}; read it, and change it again"
    return ProblemError(
        Reason.CONFLICT, detail, members={"head": head}, headers={"etag": entity_tag(head)}
    )


def _tags(header: str, value: str) -> set[str] | None:
    """The entity tags of a header; None for `*`."""
    if _TAGS.fullmatch(value.strip()) is None:
        detail = f'{header} must be entity tags in double quotes, such as "17", or *'
        raise ProblemError(Reason.MALFORMED_REQUEST, detail)
    return None if value.strip() == "*" else set(re.findall(_TAG, value))
