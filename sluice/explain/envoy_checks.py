"""What Envoy does to a request before it asks the callout, as far as a decision depends on it.

Envoy normalizes the path (`normalize_path`, `merge_slashes`), refuses paths with escaped slashes
and header names with underscores (unless the listener drops or allows these headers), and sets or
removes headers that only the gateway may set. See
`xds.resources.listener`. Envoy's other checks, such as those of sizes, are not repeated here.
"""

import re
from collections.abc import Iterable

from sluice.config.gateway import UnderscoresAction
from sluice.contract import headers as names

_ALIAS = re.compile("|".join(names.ALIASES))
_ESCAPED_SLASH = re.compile(r"%(2f|5c)", re.IGNORECASE)
_ESCAPED = re.compile(r"%([0-9a-fA-F]{2})")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")
"""Characters that mean the same with and without an escape (RFC 3986 section 2.3)."""


def refusal(path: str, header_names: Iterable[str], underscores: UnderscoresAction) -> str | None:
    """Why Envoy refuses the request with the status 400; None if it does not."""
    if _ESCAPED_SLASH.search(path.partition("?")[0]):
        return "the path has an escaped slash (%2F or %5C)"
    for name in header_names:
        if "_" in name and underscores == "reject":
            return f"the header name {name[:80]!r} has an underscore"
    return None


def normalized_path(path: str) -> str:
    """The path, with the query, as the callout and the routes see it (RFC 3986 section 6.2.2)."""
    before, question, query = path.partition("?")
    unescaped = _ESCAPED.sub(_unescaped, before.replace("\\", "/"))
    segments: list[str] = []
    parts = unescaped.split("/")[1:]
    for part in parts:
        if part == "..":
            del segments[-1:]
        elif part != ".":
            segments.append(part)
    if parts[-1:] in (["."], [".."]):
        segments.append("")
    return re.sub("/{2,}", "/", f"/{'/'.join(segments)}") + question + query


def headers_for_callout(
    headers: Iterable[tuple[str, bytes]], client_address: str, underscores: UnderscoresAction
) -> list[tuple[str, bytes]]:
    """The headers of a client, with those removed and added that only the gateway may set."""
    kept = [
        (name, value)
        for name, value in headers
        if name not in (names.MODEL_SERVICE, names.CLIENT_ADDRESS)
        and not name.startswith(names.INTERNAL_PREFIX)
        and not ("_" in name and (underscores == "drop" or _ALIAS.fullmatch(name)))
    ]
    return [*kept, (names.CLIENT_ADDRESS, client_address.encode())]


def _unescaped(match: re.Match[str]) -> str:
    character = chr(int(match[1], 16))
    return character if _UNRESERVED.fullmatch(character) else match[0]
