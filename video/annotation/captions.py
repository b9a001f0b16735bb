"""The lines of text on an annotated frame: labels, or the first numbers, of each output."""

from collections.abc import Iterable
from typing import Final

from protos import video_pb2 as pb

MAX_LINES: Final = 8
MAX_TEXT: Final = 48
"""Characters of a line."""
_MAX_VALUES: Final = 5


def captions(event: pb.AnalysisResult, boxes: Iterable[str]) -> list[str]:
    """The lines for an event. Outputs with one of the names `boxes` are drawn, and have none."""
    if event.HasField("failure"):
        return [shown(f"failed: {event.failure.reason}")]
    drawn = frozenset(boxes)
    outputs = [output for output in event.inference.outputs if output.name not in drawn]
    labeled = [output for output in outputs if output.labels]
    lines: list[str] = []
    for output in labeled or outputs:
        lines += _labels(output) if labeled else [_values(output)]
        if len(lines) >= MAX_LINES:
            break
    return [shown(line) for line in lines[:MAX_LINES]]


def shown(text: str) -> str:
    """The text in one line, with `?` for what is not printable, cut to a maximum."""
    line = "".join([each if each.isprintable() else "?" for each in text[: MAX_TEXT + 1]])
    return line if len(line) <= MAX_TEXT else f"{line[: MAX_TEXT - 3]}..."


def _labels(output: pb.Output) -> list[str]:
    return [
        f"{label.label or label.index} {label.score:.2f}"
        if label.HasField("score")
        else f"{label.label or label.index}"
        for label in output.labels[:MAX_LINES]
    ]


def _values(output: pb.Output) -> str:
    if output.texts:
        texts = [text[:MAX_TEXT].decode(errors="replace") for text in output.texts[:_MAX_VALUES]]
        return f"{output.name}: {', '.join(texts)}"
    values = output.numbers or output.integers or output.unsigned_integers
    more = " ..." if len(values) > _MAX_VALUES else ""
    return f"{output.name}: {' '.join(f'{value:.4g}' for value in values[:_MAX_VALUES])}{more}"
