"""The parts of a request that stages read. Every stage declares them.

The admission cache depends on the declarations: it must not leave a part out of its key that a
decision depends on. A test runs every stage on requests that record what is read.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """The parts of a request that one or more stages read under one policy."""

    headers: frozenset[str] = frozenset()
    """Headers that are read by value."""

    header_patterns: frozenset[str] = frozenset()
    """Patterns (of `fnmatch`) of names; every header with such a name is read by value."""

    header_names: bool = False
    """The names of all headers are read."""

    bounded_by_max_body: frozenset[str] = frozenset()
    """Headers with a number of bytes that is only compared with the model's `max_body`: an
    admission is valid for every number up to `Admission.max_body`."""

    has_body: bool = False
    """It is read whether the request has a body."""

    time: bool = False
    """The time is read for any purpose other than the next one."""

    time_until_expiry: bool = False
    """The time is read to verify credentials: an admission is valid until `identity.expires`."""

    def __or__(self, other: "Reads") -> "Reads":
        """Everything that is read by either."""
        return Reads(
            headers=self.headers | other.headers,
            header_patterns=self.header_patterns | other.header_patterns,
            header_names=self.header_names or other.header_names,
            bounded_by_max_body=self.bounded_by_max_body | other.bounded_by_max_body,
            has_body=self.has_body or other.has_body,
            time=self.time or other.time,
            time_until_expiry=self.time_until_expiry or other.time_until_expiry,
        )
