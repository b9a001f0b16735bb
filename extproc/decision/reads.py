"""The parts of a request that a stage reads. Every stage declares them.

The admission cache relies on these declarations: the key must contain every part that a decision
reads, or the cache must check the part on each hit. A test compares the declarations with the reads
of the stages.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """The parts of a request that one or more stages read under a policy."""

    headers: frozenset[str] = frozenset()
    """Names of headers whose values are read."""

    header_patterns: frozenset[str] = frozenset()
    """Patterns of names (see `fnmatch`): the values of all headers with such names are read."""

    header_names: bool = False
    """Whether the names of all headers are read."""

    unprintable_header: bool = False
    """Whether `Request.unprintable_header` is read. An admission is valid for every value that
    consists of printable ASCII."""

    header_bytes: bool = False
    """Whether `Request.header_bytes` is read: the lengths of all headers."""

    bounded_by_max_body: frozenset[str] = frozenset()
    """Names of headers whose values are only compared with the model's `max_body`.
    An admission is valid for every value up to `Admission.max_body`."""

    has_body: bool = False
    """Whether `Request.has_body` is read."""

    time: bool = False
    """Whether `Request.now` is read for any purpose other than `time_until_expiry`."""

    time_until_expiry: bool = False
    """Whether `Request.now` is read to verify credentials. An admission is valid until
    `identity.expires`."""

    def __or__(self, other: "Reads") -> "Reads":
        """The parts that at least one of the two reads."""
        return Reads(
            headers=self.headers | other.headers,
            header_patterns=self.header_patterns | other.header_patterns,
            header_names=self.header_names or other.header_names,
            unprintable_header=self.unprintable_header or other.unprintable_header,
            header_bytes=self.header_bytes or other.header_bytes,
            bounded_by_max_body=self.bounded_by_max_body | other.bounded_by_max_body,
            has_body=self.has_body or other.has_body,
            time=self.time or other.time,
            time_until_expiry=self.time_until_expiry or other.time_until_expiry,
        )
