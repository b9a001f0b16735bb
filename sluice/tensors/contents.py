"""Finds the raw contents of each output in a ModelInferResponse, which some servers write oddly."""

from collections.abc import Sequence

from protos import inference_pb2 as v2

Output = v2.ModelInferResponse.InferOutputTensor


def raw_contents(entries: Sequence[Output], raw: Sequence[bytes]) -> Sequence[bytes | None]:
    """The raw contents of each output; None if it has typed contents instead.

    Raises ValueError if it is not clear to which outputs the contents belong.
    """
    if len(raw) == len(entries) and all(raw):
        return raw
    typed = [_has_contents(entry) for entry in entries]
    if len(raw) == len(typed):
        return [None if has and not data else data for has, data in zip(typed, raw, strict=True)]
    if len(raw) == typed.count(False):
        contents = iter(raw)
        return [None if has else next(contents) for has in typed]
    if raw:
        raise ValueError(f"has {len(typed)} outputs, but {len(raw)} raw contents")
    return [None] * len(typed)


def _has_contents(entry: Output) -> bool:
    return bool(entry.HasField("contents") and entry.contents.ListFields())
