"""Serializes problem documents (RFC 9457), the body of every refusal by the callout."""

import orjson

from sluice.contract.problem import problem_members


def problem(
    status: int, reason: str, detail: str, *, field: str = "", request_id: str = ""
) -> bytes:
    """A problem document in UTF-8, with the extension members `reason` and `field`.

    `field` names the place in the request that is wrong. `instance` is the request id, which logs
    contain too. Both are omitted if they are empty.
    """
    members = problem_members(status, reason, _printable(detail))
    if field:
        members["field"] = _printable(field)
    if request_id:
        members["instance"] = f"urn:request:{request_id}"
    return orjson.dumps(members)


def _printable(text: str) -> str:
    # Text from a client can contain lone surrogates, which UTF-8 cannot encode.
    return text.encode(errors="replace").decode()
