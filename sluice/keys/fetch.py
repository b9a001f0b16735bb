"""Fetches a key set from a `jwks_uri`, with bounds on time and size."""

import asyncio
import time
import urllib.request

from sluice.keys.key_set import MAX_DOCUMENT

FETCH_TIMEOUT = 5.0
"""Seconds for one fetch. If the headers arrive slowly, the fetch ends after twice this time."""
READ_SIZE = 1 << 16


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: keys must come from the configured host, with the configured scheme."""

    def redirect_request(self, *_: object) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


async def fetch_document(uri: str) -> bytes:
    """Fetch a document over http or https, in a thread. A redirect is an error.

    Raises OSError, ValueError or HTTPException.
    """
    # The thread checks the deadline only between reads of the body, not while headers arrive.
    return await asyncio.wait_for(asyncio.to_thread(_get, uri), 2 * FETCH_TIMEOUT)


def _get(uri: str) -> bytes:
    deadline = time.monotonic() + FETCH_TIMEOUT
    document = bytearray()
    with _OPENER.open(uri, timeout=FETCH_TIMEOUT) as response:
        while chunk := response.read1(READ_SIZE):
            document += chunk
            if len(document) > MAX_DOCUMENT:
                raise ValueError("the key set is larger than 1 MiB")
            if time.monotonic() > deadline:
                raise TimeoutError(f"the key set took longer than {FETCH_TIMEOUT:.0f} s")
    return bytes(document)
