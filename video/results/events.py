"""The JSON of an event."""

import base64
from collections.abc import Mapping
from typing import Final

import numpy as np
import orjson

from protos import video_pb2 as pb

_SINGLE: Final = {"FP16": np.float16, "BF16": np.float32, "FP32": np.float32}
"""Numbers of fewer than 64 bits are written with as few digits as they need."""


def event_json(event: pb.AnalysisResult) -> bytes:
    """The event as a JSON object in one line. NaN and infinity become null.

    A BYTES element is a text, or `{"b64": ...}` if it is not UTF-8.
    """
    timings = event.timings
    document: dict[str, object] = {
        "id": event.id,
        "stream": event.stream,
        "model": event.model,
        "frame": event.frame,
        "time": event.time,
        "captured_us": event.captured_us,
        "width": event.width,
        "height": event.height,
        "timings": {
            "decode": round(timings.decode, 3),
            "convert": round(timings.convert, 3),
            "wait": round(timings.wait, 3),
            "inference": round(timings.inference, 3),
            "total": round(timings.total, 3),
        },
    }
    outcome = event.WhichOneof("outcome")
    if outcome == "inference":
        document[outcome] = _inference(event.inference)
    elif outcome == "failure":
        document[outcome] = {"reason": event.failure.reason, "detail": event.failure.detail}
    elif outcome == "end":
        document[outcome] = _summary(event.end)
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _inference(inference: pb.Inference) -> dict[str, object]:
    return {
        "model_version": inference.model_version,
        "outputs": [_output(output) for output in inference.outputs],
    }


def _output(output: pb.Output) -> dict[str, object]:
    written: dict[str, object] = {
        "name": output.name,
        "datatype": output.datatype,
        "shape": list(output.shape),
        "data": _data(output),
    }
    if output.labels:
        written["labels"] = [_label(label) for label in output.labels]
    return written


def _data(output: pb.Output) -> object:
    datatype = output.datatype
    if datatype == "BYTES":
        return [_text(text) for text in output.texts]
    if datatype == "BOOL":
        return [integer != 0 for integer in output.integers]
    if datatype == "UINT64":
        return list(output.unsigned_integers)
    if datatype == "FP64":
        return list(output.numbers)
    single = _SINGLE.get(datatype)
    return list(output.integers) if single is None else np.array(list(output.numbers), single)


def _text(text: bytes) -> object:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(text).decode()}


def _label(label: pb.Label) -> dict[str, object]:
    written: dict[str, object] = {"label": label.label or None, "index": label.index}
    if label.HasField("score"):
        written["score"] = np.float32(label.score)
    return written


def _summary(end: pb.Summary) -> dict[str, object]:
    counts = end.counts
    return {
        "reason": end.reason,
        "detail": end.detail,
        "counts": {
            "received": counts.received,
            "skipped": counts.skipped,
            "undecodable": counts.undecodable,
            "frames": counts.frames,
            "results": counts.results,
            "drops": _by_reason(counts.drops),
            "errors": _by_reason(counts.errors),
            "bytes": counts.bytes,
            "reconnects": counts.reconnects,
        },
    }


def _by_reason(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items()))
