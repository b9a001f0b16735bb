"""A response of a model becomes the results of its frames."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos import inference_pb2 as v2
from protos import video_pb2 as pb
from sluice.config.tensors import TensorOutput
from video.results.inference import MAX_ELEMENTS, MAX_TEXT, ResultError, read_inferences

DIGITS = TensorOutput(name="scores", labels=tuple("0123456789"), top_k=2)


def raw_response(
    data: bytes, datatype: str, shape: tuple[int, ...], name: str = "scores"
) -> v2.ModelInferResponse:
    response = v2.ModelInferResponse(model_name="digits", model_version="v2")
    response.outputs.add(name=name, datatype=datatype, shape=shape)
    response.raw_output_contents.append(data)
    return response


def elements(output: pb.Output) -> list[object]:
    return [*output.numbers, *output.integers, *output.unsigned_integers, *output.texts]


def test_a_result_has_the_outputs_of_its_frame_without_the_batch_dimension() -> None:
    scores = np.arange(6, dtype="<f4").reshape(2, 3)
    first, second = read_inferences(raw_response(scores.tobytes(), "FP32", (2, 3)), 2, ())
    assert first.model_version == "v2"
    assert list(first.outputs[0].shape) == [3]
    assert list(first.outputs[0].numbers) == [0, 1, 2]
    assert list(second.outputs[0].numbers) == [3, 4, 5]


def test_without_a_batch_dimension_the_response_belongs_to_one_frame() -> None:
    scores = np.arange(6, dtype="<f4")
    (result,) = read_inferences(raw_response(scores.tobytes(), "FP32", (1, 6)), None, ())
    assert list(result.outputs[0].shape) == [1, 6]


def test_outputs_of_a_single_frame_may_have_no_batch_dimension() -> None:
    boxes = np.zeros((7, 4), dtype="<f4")
    (result,) = read_inferences(raw_response(boxes.tobytes(), "FP32", (7, 4)), 1, ())
    assert list(result.outputs[0].shape) == [7, 4]


def test_a_server_may_omit_the_shape() -> None:
    scores = np.arange(6, dtype="<f4")
    first, second = read_inferences(raw_response(scores.tobytes(), "FP32", ()), 2, ())
    assert list(first.outputs[0].shape) == [3]
    assert list(second.outputs[0].numbers) == [3, 4, 5]


def test_scores_get_the_labels_of_the_best_classes() -> None:
    scores = np.zeros((1, 10), dtype="<f4")
    scores[0, 7], scores[0, 3] = 0.75, 0.25
    (result,) = read_inferences(raw_response(scores.tobytes(), "FP32", (1, 10)), 1, [DIGITS])
    labels = result.outputs[0].labels
    assert [(each.label, each.index, each.score) for each in labels] == [
        ("7", 7, 0.75),
        ("3", 3, 0.25),
    ]


def test_an_integer_is_the_class_and_has_no_score() -> None:
    numbers = np.array([4, 12], dtype="<i8")
    response = raw_response(numbers.tobytes(), "INT64", (2,))
    results = read_inferences(response, 2, [DIGITS])
    first, second = (result.outputs[0].labels[0] for result in results)
    assert (first.label, first.index, first.HasField("score")) == ("4", 4, False)
    assert (second.label, second.index) == ("", 12)


@pytest.mark.parametrize(
    ("datatype", "raw", "expected"),
    [
        ("BOOL", b"\x00\x01\x02", [0, 1, 1]),
        ("UINT8", b"\x00\xff", [0, 255]),
        ("INT8", b"\x00\xff", [0, -1]),
        ("UINT16", struct.pack("<2H", 1, 65535), [1, 65535]),
        ("INT16", struct.pack("<2h", 1, -2), [1, -2]),
        ("UINT32", struct.pack("<I", 2**32 - 1), [2**32 - 1]),
        ("INT32", struct.pack("<i", -(2**31)), [-(2**31)]),
        ("UINT64", struct.pack("<Q", 2**64 - 1), [2**64 - 1]),
        ("INT64", struct.pack("<q", -(2**63)), [-(2**63)]),
        ("FP16", struct.pack("<2e", 0.5, -2), [0.5, -2]),
        ("BF16", struct.pack("<f", 1.5)[2:], [1.5]),
        ("FP32", struct.pack("<f", 0.25), [0.25]),
        ("FP64", struct.pack("<d", 0.1), [0.1]),
        ("BYTES", b"\x02\x00\x00\x00ab\x00\x00\x00\x00", [b"ab", b""]),
    ],
)
def test_every_datatype_is_read(datatype: str, raw: bytes, expected: list[object]) -> None:
    (result,) = read_inferences(raw_response(raw, datatype, (len(expected),)), None, ())
    assert elements(result.outputs[0]) == expected


@pytest.mark.parametrize(
    ("datatype", "contents", "expected"),
    [
        ("BOOL", {"bool_contents": [True, False]}, [1, 0]),
        ("INT32", {"int_contents": [-3]}, [-3]),
        ("INT64", {"int64_contents": [-(2**60)]}, [-(2**60)]),
        ("UINT32", {"uint_contents": [3]}, [3]),
        ("UINT64", {"uint64_contents": [2**63]}, [2**63]),
        ("FP32", {"fp32_contents": [0.5]}, [0.5]),
        ("FP64", {"fp64_contents": [0.1]}, [0.1]),
        ("FP16", {"fp32_contents": [0.5]}, [0.5]),
        ("BF16", {"fp32_contents": [0.5]}, [0.5]),
        ("INT64", {"fp64_contents": [4.0]}, [4]),
        ("BYTES", {"bytes_contents": [b"cat"]}, [b"cat"]),
    ],
)
def test_typed_contents_are_read_also_of_another_type(
    datatype: str, contents: dict[str, list[object]], expected: list[object]
) -> None:
    response = v2.ModelInferResponse()
    typed = v2.InferTensorContents(**contents)  # type: ignore[arg-type]
    response.outputs.add(name="x", datatype=datatype, shape=[1, len(expected)], contents=typed)
    (result,) = read_inferences(response, 1, ())
    assert elements(result.outputs[0]) == expected


@pytest.mark.parametrize(
    ("response", "frames", "cause"),
    [
        (raw_response(bytes(12), "FP32", (3, 1)), 2, "shape [3, 1] for 2 frames"),
        (raw_response(bytes(12), "FP32", (2, 2)), None, "3 elements for the shape [2, 2]"),
        (raw_response(bytes(3), "FP32", (1,)), None, "size"),
        (raw_response(bytes(4), "FP8", (1,)), None, "unknown datatype 'FP8'"),
        (raw_response(bytes(4), "FP32", (1,) * 33), None, "33 dimensions"),
        (raw_response(b"\xff\xff\xff\x7f", "BYTES", (1,)), None, "a length of 2147483647 bytes"),
        (raw_response(b"", "UINT8", (0,), "n" * 257), None, "name of an output"),
        (raw_response(bytes(MAX_ELEMENTS + 1), "UINT8", ()), None, "more than 100000 elements"),
        (
            raw_response(struct.pack("<I", MAX_TEXT + 1) + bytes(MAX_TEXT + 1), "BYTES", (1,)),
            None,
            "more than 1048576 bytes",
        ),
    ],
)
def test_a_response_that_is_no_result_is_refused(
    response: v2.ModelInferResponse, frames: int | None, cause: str
) -> None:
    with pytest.raises(ResultError) as refused:
        read_inferences(response, frames, ())
    assert cause in str(refused.value)


def test_the_bound_is_for_all_outputs_together() -> None:
    response = v2.ModelInferResponse()
    for name in ("a", "b"):
        response.outputs.add(name=name, datatype="UINT8", shape=[MAX_ELEMENTS // 2 + 1])
        response.raw_output_contents.append(bytes(MAX_ELEMENTS // 2 + 1))
    with pytest.raises(ResultError):
        read_inferences(response, None, ())


def test_typed_contents_that_the_datatype_cannot_have_are_refused() -> None:
    response = v2.ModelInferResponse()
    contents = v2.InferTensorContents(uint_contents=[256])
    response.outputs.add(name="x", datatype="UINT8", shape=[1], contents=contents)
    with pytest.raises(ResultError):
        read_inferences(response, None, ())


@given(
    st.builds(
        v2.ModelInferResponse,
        model_version=st.text(max_size=5),
        outputs=st.lists(
            st.builds(
                v2.ModelInferResponse.InferOutputTensor,
                name=st.text(max_size=3),
                datatype=st.sampled_from(["FP32", "BYTES", "int64", "BOOL", "UINT64", "x", "BF16"]),
                shape=st.lists(st.integers(-2, 5), max_size=3),
                contents=st.none()
                | st.builds(
                    v2.InferTensorContents,
                    fp64_contents=st.lists(st.floats(), max_size=3),
                    int64_contents=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
                    bytes_contents=st.lists(st.binary(max_size=3), max_size=3),
                ),
            ),
            max_size=3,
        ),
        raw_output_contents=st.lists(st.binary(max_size=24), max_size=3),
    ),
    st.none() | st.integers(1, 3),
)
def test_any_response_gives_a_result_for_each_frame_or_a_clear_error(
    response: v2.ModelInferResponse, frames: int | None
) -> None:
    try:
        results = read_inferences(response, frames, [DIGITS])
    except ResultError:
        return
    assert len(results) == (frames or 1)
    for result in results:
        for output in result.outputs:
            assert len(elements(output)) == np.prod(output.shape, dtype=int)
