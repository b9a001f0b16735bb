"""Serializes problem documents (RFC 9457), the body of every refusal by the callout."""

import orjson

from sluice.contract.problem import problem_members


def problem(
    status: int, reason: str, detail: str, *, field: str = "", request_id: str = ""
) -> bytes:
    """A problem document in UTF-8, with the members of `problem_members`.

    `instance` is the request id, which logs contain too. It is omitted if it is empty.
    """
    members = problem_members(status, reason, _printable(detail), _printable(field))
    if request_id:
        members["instance"] = f"urn:request:{request_id}"
    return orjson.dumps(members)


def _printable(text: str) -> str:
    # Text from a client can contain lone surrogates, which UTF-8 cannot encode.
    return text.encode(errors="replace").decode()
