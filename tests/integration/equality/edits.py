"""Edits: each changes one thing of an admitted request, so that a policy may have to refuse it."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from tests.integration.equality import head_edits, path_edits, policies, token_edits
from tests.integration.equality.population import Population, user_ids
from tests.integration.equality.request import Request

Edit = Callable[[random.Random, Request, Population], Request | None]
"""Returns the changed request; None if the edit does not apply to it."""

MAX_TRIES = 3
"""Tries of one kind of edit."""


def _other_caller(_: random.Random, request: Request, population: Population) -> Request | None:
    """The token of another caller, valid or from an issuer with other claims."""
    if request.credential is None:
        return None
    return request.with_credential(population.credential())


def _user(rng: random.Random, request: Request, _: Population) -> Request:
    """Another user, for buckets."""
    name = rng.choice(policies.HEADER_NAMES).encode()
    return request.with_header(name, rng.choice(user_ids(rng)))


def _http_version(_: random.Random, request: Request, __: Population) -> Request:
    return replace(request, http2=not request.http2)


EDITS: Final[dict[str, Edit]] = {
    "add a header": head_edits.add_header,
    "replace a header": head_edits.spoof_header,
    "drop a header": head_edits.drop_header,
    "repeat a header": head_edits.repeat_header,
    "change a header": head_edits.change_header,
    "change a header's name": head_edits.change_name,
    "change the media type": head_edits.content_type,
    "upgrade": head_edits.upgrade,
    "hide a value of a claim": token_edits.hidden_value,
    "change the method": head_edits.method,
    "change the length": head_edits.length,
    "change the path": path_edits.path_text,
    "change the version in the path": path_edits.path_version,
    "change authorization": token_edits.authorization,
    "change a claim": token_edits.claim,
    "change the token's header": token_edits.token_header,
    "change the token's encoding": token_edits.padded_payload,
    "change the caller": _other_caller,
    "change the user": _user,
    "change the HTTP version": _http_version,
}

_WEIGHTS: Final = (6, 4, 4, 4, 4, 1, 4, 1, 3, 3, 4, 6, 4, 4, 10, 4, 1, 2, 2, 1)


def edited(request: Request, population: Population) -> Request:
    """A request that is one random edit away from an admitted one."""
    (name,) = population.rng.choices(list(EDITS), _WEIGHTS)
    return edited_by(name, request, population)


def edited_by(name: str, request: Request, population: Population) -> Request:
    """A request that is one edit of this kind away from an admitted one.

    If such an edit does not apply to the request, the edit is another one.
    """
    for _ in range(MAX_TRIES):
        found = EDITS[name](population.rng, request, population)
        if found is not None and not found.is_sent_as(request):
            # Over HTTP/2, one invalid request would take the others on its connection with it.
            return replace(found, edit=name, http2=found.http2 and not found.ends_http2)
    return edited(request, population)
