"""Requests that record what stages read, and a comparison with what the stages declare."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from extproc.decision import Reads, Request
from extproc.decision.context import DecisionContext
from extproc.decision.decide import Stage
from extproc.policy.compiled import Policy


@dataclass(slots=True)
class Recorded:
    """The parts of requests that were read."""

    values: set[str] = field(default_factory=set)
    header_names: bool = False
    unprintable_header: bool = False
    header_bytes: bool = False
    has_body: bool = False
    time: bool = False


class RecordingHeaders(Mapping[str, bytes]):
    """Records each header that is looked up, even if it is absent."""

    def __init__(self, headers: Mapping[str, bytes], recorded: Recorded) -> None:
        self._headers = headers
        self._recorded = recorded

    def __getitem__(self, name: str) -> bytes:
        self._recorded.values.add(name)
        return self._headers[name]

    def __iter__(self) -> Iterator[str]:
        self._recorded.header_names = True
        return iter(self._headers)

    def __len__(self) -> int:
        self._recorded.header_names = True
        return len(self._headers)


class RecordingRequest(Request):
    """Records which fields are read."""

    def __init__(self, request: Request, recorded: Recorded) -> None:
        headers = RecordingHeaders(request.headers, recorded)
        super().__init__(headers, request.has_body, request.now)
        object.__setattr__(self, "request", request)
        object.__setattr__(self, "recorded", recorded)

    def __getattribute__(self, name: str) -> object:
        if name == "unprintable_header":
            super().__getattribute__("recorded").unprintable_header = True
            unprintable: str | None = super().__getattribute__("request").unprintable_header
            return unprintable
        if name == "header_bytes":
            super().__getattribute__("recorded").header_bytes = True
            return super().__getattribute__("request").header_bytes
        if name == "has_body":
            super().__getattribute__("recorded").has_body = True
        elif name == "now":
            super().__getattribute__("recorded").time = True
        return super().__getattribute__(name)


def wrong_declarations(
    stages: Sequence[Stage], corpus: Iterable[tuple[Policy, Sequence[Request]]]
) -> set[str]:
    """Reads that a stage does not declare, and declared parts that it reads in no request."""
    undeclared: set[str] = set()
    declared: dict[str, set[str]] = {stage.name: set() for stage in stages}
    read: dict[str, set[str]] = {stage.name: set() for stage in stages}
    for policy, requests in corpus:
        declarations = {stage.name: stage.reads(policy) for stage in stages}
        for name, reads in declarations.items():
            declared[name] |= _declared_parts(reads)
        for request in requests:
            for name, recorded in _record(stages, policy, request):
                read[name] |= _covered_parts(recorded, declarations[name])
                missing = _undeclared_parts(recorded, declarations[name])
                undeclared |= {f"{name} reads {part} and does not declare it" for part in missing}
    return undeclared | {
        f"{name} declares {part} and never reads it"
        for name, parts in declared.items()
        for part in parts - read[name]
    }


def _record(
    stages: Sequence[Stage], policy: Policy, request: Request
) -> Iterator[tuple[str, Recorded]]:
    context = DecisionContext()
    for stage in stages:
        recorded = Recorded()
        refusal = stage.run(policy, RecordingRequest(request, recorded), context)
        yield stage.name, recorded
        if refusal is not None:
            return


def _declared_parts(reads: Reads) -> set[str]:
    parts = {*reads.headers, *reads.header_patterns, *reads.bounded_by_max_body}
    if reads.header_names:
        parts.add("the names of headers")
    if reads.header_bytes:
        parts.add("the size of the headers")
    if reads.unprintable_header:
        parts.add("whether a header is unprintable")
    if reads.has_body:
        parts.add("whether there is a body")
    if reads.time or reads.time_until_expiry:
        parts.add("the time")
    return parts


def _covered_parts(recorded: Recorded, reads: Reads) -> set[str]:
    """The declared parts that were read."""
    patterns = {
        pattern
        for pattern in reads.header_patterns
        if any(fnmatchcase(name, pattern) for name in recorded.values)
    }
    return patterns | _recorded_parts(recorded)


def _undeclared_parts(recorded: Recorded, reads: Reads) -> set[str]:
    return {
        part
        for part in _recorded_parts(recorded) - _declared_parts(reads)
        if part not in recorded.values
        or not any(fnmatchcase(part, pattern) for pattern in reads.header_patterns)
    }


def _recorded_parts(recorded: Recorded) -> set[str]:
    parts = set(recorded.values)
    if recorded.header_names:
        parts.add("the names of headers")
    if recorded.header_bytes:
        parts.add("the size of the headers")
    if recorded.unprintable_header:
        parts.add("whether a header is unprintable")
    if recorded.has_body:
        parts.add("whether there is a body")
    if recorded.time:
        parts.add("the time")
    return parts
