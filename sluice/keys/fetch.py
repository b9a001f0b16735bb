"""Fetches a key set from a `jwks_uri`, within bounds of time and size."""

import asyncio
import time
import urllib.request

FETCH_TIMEOUT = 5.0
"""Seconds for one fetch, and twice that at the very most, however slowly it answers."""
MAX_DOCUMENT = 1 << 20
CHUNK = 1 << 16


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Keys come from where the config says: no redirect leads elsewhere, or away from https."""

    def redirect_request(self, *_: object) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


async def fetch_document(uri: str) -> bytes:
    """GET a document over http(s), off the event loop. Raises OSError, ValueError, HTTPException.

    A redirect is an error.
    """
    # The thread watches the time between reads of the body only: headers can trickle, too.
    return await asyncio.wait_for(asyncio.to_thread(_get, uri), 2 * FETCH_TIMEOUT)


def _get(uri: str) -> bytes:
    deadline = time.monotonic() + FETCH_TIMEOUT
    document = bytearray()
    with _OPENER.open(uri, timeout=FETCH_TIMEOUT) as answer:
        while piece := answer.read1(CHUNK):
            document += piece
            if len(document) > MAX_DOCUMENT:
                raise ValueError("the key set is larger than 1 MiB")
            if time.monotonic() > deadline:
                raise TimeoutError(f"the key set took longer than {FETCH_TIMEOUT:.0f} s")
    return bytes(document)
