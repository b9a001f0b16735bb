"""Answers agree if they have the same status, and the same top class or the same bytes."""

import gzip
import math
import struct
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from extproc.convert import ConversionLimits
from extproc.framing import length_prefixed
from extproc.mirror.answer import Answer
from extproc.mirror.comparison import Comparison, compare
from protos.inference_pb2 import ModelInferResponse

JSON = {"content-type": "application/json"}
SCORES = {"name": "scores", "datatype": "FP32", "shape": [2, 2]}


def v2(*outputs: dict[str, Any], status: int = 200) -> Answer:
    body = {"model_name": "m", "model_version": str(id(outputs)), "outputs": outputs}
    return Answer(status, JSON, orjson.dumps(body))


def binary(output: dict[str, Any], data: bytes) -> Answer:
    parameters = {"binary_data_size": len(data)}
    head = orjson.dumps({"outputs": [{**output, "parameters": parameters}]})
    headers = {
        "content-type": "application/octet-stream",
        "inference-header-content-length": str(len(head)),
    }
    return Answer(200, headers, head + data)


def grpc(*scores: float, status: str = "0") -> Answer:
    message = ModelInferResponse(model_name="m")
    message.outputs.add(name="scores", datatype="FP32", shape=[2, 2])
    message.raw_output_contents.append(struct.pack(f"<{len(scores)}f", *scores))
    body = length_prefixed(message.SerializeToString()) if status == "0" else b""
    return Answer(200, {"content-type": "application/grpc", "grpc-status": status}, body)


def scores(*data: float | None) -> dict[str, Any]:
    return {**SCORES, "data": data}


def result(one: Answer, other: Answer, *labeled: str) -> Comparison:
    return compare(one, other, frozenset(labeled), ConversionLimits())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (v2(scores(0.5, 0.25, 0.25, 0.5)), v2(scores(0.75, 0.25, 0.25, 0.5))),
        (grpc(0.5, 0.25, 0.25, 0.5), grpc(0.75, 0.25, 0.25, 0.5)),
        (
            binary(SCORES, struct.pack("<4f", 0.5, 0.25, 0.25, 0.5)),
            v2(scores(0.75, 0.25, 0.25, 0.5)),
        ),
        (
            v2(scores(0.5, 0.25, 0.25, 0.5)),
            v2({**SCORES, "data": [[0.75, 0.25], [0.25, 0.5]]}),
        ),
    ],
)
def test_tensors_agree_in_their_top_classes(one: Answer, other: Answer) -> None:
    assert result(one, other) == Comparison(True, 0.25, pytest.approx(1 / 3))


@pytest.mark.parametrize("answer", [lambda *data: v2(scores(*data)), grpc])
def test_each_row_has_a_class(answer: Callable[..., Answer]) -> None:
    compared = result(answer(0.5, 0.4, 0.4, 0.5), answer(0.5, 0.4, 0.5, 0.4))
    assert not compared.agreed
    assert compared.absolute == pytest.approx(0.1)


@pytest.mark.parametrize(
    "other",
    [
        v2({**SCORES, "name": "other", "data": [0, 1, 0, 1]}),
        v2({**SCORES, "datatype": "FP64", "data": [0, 1, 0, 1]}),
        v2({**SCORES, "shape": [1, 4], "data": [0, 1, 0, 1]}),
        v2(scores(0, 1, 0, 1), scores(0, 1, 0, 1)),
        v2(scores(0, 1, 0, 1), status=201),
        Answer(200, JSON, b"not JSON"),
        Answer(200, JSON, b"[]"),
    ],
)
def test_answers_of_another_form_do_not_agree(other: Answer) -> None:
    assert result(v2(scores(0, 1, 0, 1)), other) == Comparison(agreed=False)


def test_only_outputs_with_labels_decide_if_there_are_some() -> None:
    label = {"name": "label", "datatype": "BYTES", "shape": [1]}
    one = v2({**label, "data": ["a"]}, scores(0, 1, 0, 1))
    other = v2({**label, "data": ["b"]}, scores(0, 1, 0, 1))
    assert not result(one, other).agreed
    assert result(one, other, "scores").agreed


def test_a_single_score_has_no_class_but_a_difference() -> None:
    score = {"name": "score", "datatype": "FP64", "shape": [1]}
    compared = result(v2({**score, "data": [2.0]}), v2({**score, "data": [4.0]}))
    assert compared == Comparison(True, 2.0, 0.5)


def test_whole_numbers_are_classes() -> None:
    number = {"name": "class", "datatype": "INT64", "shape": [1]}
    assert result(v2({**number, "data": [7]}), v2({**number, "data": [1]})) == Comparison(
        False, 6.0, pytest.approx(6 / 7)
    )


def test_nan_and_infinity_are_no_differences_but_must_stand_at_the_same_places() -> None:
    nan, infinite = math.nan, math.inf
    same = result(grpc(1, 0, nan, infinite), grpc(1, 0, nan, infinite))
    assert same == Comparison(True, 0.0, 0.0)
    other = result(grpc(1, 0, 0, 1), grpc(1, 0, 0, infinite))
    assert (other.agreed, other.absolute) == (False, 0.0)


def test_the_largest_difference_is_finite() -> None:
    number = {"name": "x", "datatype": "FP64", "shape": [1]}
    compared = result(v2({**number, "data": [1.7e308]}), v2({**number, "data": [-1.7e308]}))
    assert math.isfinite(compared.absolute)


def test_other_answers_agree_if_their_content_is_equal() -> None:
    text = {"content-type": "text/plain"}
    packed = Answer(200, {**text, "content-encoding": "gzip"}, gzip.compress(b"yes"))
    assert result(Answer(200, text, b"yes"), packed).agreed
    assert not result(Answer(200, text, b"no"), packed).agreed


def test_refusals_agree_in_their_status() -> None:
    one, other = (Answer(400, JSON, body) for body in (b"v1 refuses", b"v2 refuses"))
    assert result(one, other).agreed
    assert result(grpc(status="3"), grpc(status="3")).agreed
    assert not result(grpc(status="3"), grpc(status="5")).agreed


@pytest.mark.parametrize(
    ("answer", "failed"),
    [
        (Answer(503, {}, b""), True),
        (Answer(404, {}, b""), False),
        (grpc(status="14"), True),
        (grpc(status="3"), False),
        (grpc(status="x"), True),
    ],
)
def test_a_failure_is_that_of_the_breaker(answer: Answer, failed: bool) -> None:
    assert answer.failed is failed
