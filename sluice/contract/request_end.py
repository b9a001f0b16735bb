"""How a request ended. The callout writes it into the `response_code_details` of its responses, and
the access log reads it there."""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final
from urllib.parse import quote_plus, unquote_plus

from sluice.contract.report import MAX_TEXT

CALLOUT_DETAILS: Final = "sluice"
"""Prefix of the `response_code_details` of responses by the callout."""

_CALLOUT_PREFIX: Final = f"{CALLOUT_DETAILS}:"

MAX_DETAILS = 200
"""Characters of `RequestEnd.details` in the log. They may quote names in the request, but no
data."""


@dataclass(frozen=True, slots=True)
class RequestEnd:
    """How the callout or Envoy ended a request. The reason is empty if the model server did.

    `subject` is that of the caller, as a header value. `cause` says why credentials were refused.
    `rule` is the limit rule or the config key that refused the request. `version` is the version
    that the decision chose. `details` are the place in the body that is not valid, the detail of
    the problem document, or the `response_code_details` of Envoy. Text is empty if it is unknown or
    does not apply. `by_envoy`: Envoy ended the request, before or after a decision.
    """

    reason: str
    subject: str = ""
    cause: str = ""
    rule: str = ""
    version: str = ""
    details: str = ""
    by_envoy: bool = field(default=False, kw_only=True)

    def callout_details(self) -> str:
        """The `response_code_details` of a response by the callout.

        `sluice:REASON;NAME=VALUE;...:SUBJECT`. Only the subject may contain a colon. The issuer of
        a token chooses its length, so a long one is cut.
        """
        values = (self.cause, self.rule, self.version, self.details[:MAX_DETAILS])
        named = zip(_MEMBERS, values, strict=True)
        more = "".join(f";{name}={_quoted(value)}" for name, value in named if value)
        subject = f":{self.subject[:MAX_TEXT]}" if self.subject else ""
        return f"{_CALLOUT_PREFIX}{self.reason}{more}{subject}"

    @classmethod
    def parse(cls, details: str) -> "RequestEnd | None":
        """Parse the details of a response; None if it is not a response by the callout."""
        if not details.startswith(_CALLOUT_PREFIX):
            return None
        head, _, subject = details.removeprefix(_CALLOUT_PREFIX).partition(":")
        reason, *members = head.split(";")
        pairs = (member.partition("=") for member in members)
        found = {name: unquote_plus(value) for name, _, value in pairs}
        return cls(reason, subject, *(found.get(name, "") for name in _MEMBERS))


_MEMBERS: Final = ("cause", "rule", "version", "details")
"""The members of `RequestEnd` that are written with their names, in its order."""

_PLAIN: Final = "[]()'/,"
"""Characters of a value, besides letters, digits and `_.-~`, that are not written as %XX."""


@lru_cache(1024)
def _quoted(value: str) -> str:
    return quote_plus(value, _PLAIN)
