"""The summary of a run of the mesh tests: accepted objects, and answers through Envoys."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import httpx


@dataclass
class MeshReport:
    """What tests record for the summary."""

    version: str = ""
    """That of the API server."""
    accepted: set[str] = field(default_factory=set)
    """Names of the objects that the API server has accepted, such as `deployment.apps/sluice`."""
    answers: list[tuple[str, int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What else was seen, a line each."""

    def answer(self, request: str, response: httpx.Response, detail: str = "") -> httpx.Response:
        """Record the answer to a request, which is described in a few words. Returns the answer.

        `detail`: what is to be seen beside the status; default: the reason of a refusal, or the
        version that has answered.
        """
        if not detail:
            names = ("x-sluice-reason", "x-model-version")
            detail = next(
                (response.headers[name] for name in names if name in response.headers), ""
            )
        self.answers.append((request, response.status_code, detail))
        return response

    def lines(self) -> Iterator[str]:
        """The summary."""
        if self.accepted:
            yield f"Accepted by Kubernetes {self.version}: {len(self.accepted)} objects"
            yield from _wrapped(_counts(self.accepted))
        if self.answers:
            yield "Answers through Envoys that istiod or Envoy Gateway configures:"
            width = max(len(request) for request, _, _ in self.answers)
            for request, status, detail in self.answers:
                yield f"  {request:<{width}}  {status}  {detail}".rstrip()
        if self.notes:
            yield "Seen:"
            yield from (f"  {note}" for note in self.notes)


def _counts(names: Iterable[str]) -> list[str]:
    """The number of objects of each kind, such as `3 deployment`."""
    kinds = Counter(name.partition("/")[0].partition(".")[0] for name in names)
    return [f"{count} {kind}" for kind, count in sorted(kinds.items())]


def _wrapped(parts: Iterable[str], width: int = 96) -> Iterator[str]:
    line = " "
    for part in parts:
        if len(line) + len(part) > width:
            yield line.rstrip()
            line = " "
        line += f" {part},"
    yield line.rstrip(",")
