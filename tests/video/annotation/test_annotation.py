"""Annotated frames show boxes and labels, within bounds, to watchers that take them."""

import asyncio
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from protos import video_pb2 as pb
from sluice.config.models import Model
from sluice.config.tensors import TensorOutput
from sluice.config.video import Region
from sluice.config.video_model import BoxOutputs
from video.annotation import Annotator, MjpegOutput, mjpeg_part
from video.annotation.area import InputArea
from video.annotation.boxes import MAX_BOXES, Box, find_boxes
from video.annotation.captions import MAX_LINES, MAX_TEXT, captions
from video.annotation.drawing import draw
from video.frame import EncodedImage, Frame
from video.results.encoding import BOUNDARY

WIDTH, HEIGHT = 320, 240
SQUARE = InputArea(0, 0, 1, 1, 100, 100)
LABELS = (TensorOutput(name="classes", labels=("cat", "dog")),)


def config(**boxes: Any) -> BoxOutputs:
    named = {"boxes": "boxes", "scores": "scores", "classes": "classes"}
    return BoxOutputs.model_validate({**named, **boxes})


def inference(boxes: list[float], scores: list[float], classes: list[int]) -> pb.Inference:
    result = pb.Inference()
    shape = [len(boxes) // 4, 4]
    result.outputs.add(name="boxes", datatype="FP32", shape=shape, numbers=boxes)
    result.outputs.add(name="scores", datatype="FP32", shape=shape[:1], numbers=scores)
    result.outputs.add(name="classes", datatype="INT64", shape=shape[:1], integers=classes)
    return result


def edges(box: Box) -> tuple[float, float, float, float]:
    return box.left, box.top, box.right, box.bottom


@pytest.mark.parametrize(
    ("form", "unit", "values"),
    [
        ("xyxy", "pixels", [10, 20, 50, 80]),
        ("yxyx", "pixels", [20, 10, 80, 50]),
        ("xywh", "pixels", [10, 20, 40, 60]),
        ("xyxy", "share", [0.1, 0.2, 0.5, 0.8]),
        ("xywh", "share", [0.1, 0.2, 0.4, 0.6]),
    ],
)
def test_the_coordinates_of_each_format_give_the_same_box(
    form: str, unit: str, values: list[float]
) -> None:
    (box,) = find_boxes(
        inference(values, [0.9], [1]), config(format=form, unit=unit), SQUARE, LABELS
    )
    assert edges(box) == pytest.approx((0.1, 0.2, 0.5, 0.8))
    assert box.text == "dog 0.90"


def test_objects_with_a_low_score_are_not_drawn_and_the_best_is_drawn_last() -> None:
    result = inference([1, 1, 9, 9] * 3, [0.6, 0.4, 0.8], [0, 1, 7])
    boxes = find_boxes(result, config(min_score=0.5), SQUARE, LABELS)
    assert [box.text for box in boxes] == ["cat 0.60", "7 0.80"]


def test_at_most_the_best_boxes_are_drawn() -> None:
    count = MAX_BOXES + 50
    scores = [0.5 + i / 1000 for i in range(count)]
    boxes = find_boxes(inference([1, 1, 9, 9] * count, scores, [0] * count), config(), SQUARE, ())
    assert len(boxes) == MAX_BOXES
    assert boxes[-1].text.endswith(f"{scores[-1]:.2f}")


@pytest.mark.parametrize(
    "values",
    [
        [float("nan"), 1, 2, 3],
        [0, 0, float("inf"), 1],
        [5, 5, 5, 9],
        [9, 9, 1, 1],
        [200, 200, 300, 300],
        [1, 2, 3],
        [],
    ],
)
def test_boxes_that_cannot_be_drawn_are_left_out(values: list[float]) -> None:
    assert find_boxes(inference(values, [1.0], [0]), config(), SQUARE, ()) == []


def test_a_box_is_clipped_to_the_frame() -> None:
    (box,) = find_boxes(inference([-10, -10, 50, 900], [1.0], [0]), config(), SQUARE, ())
    assert edges(box) == pytest.approx((0, 0, 0.5, 1))


def test_outputs_that_the_config_names_and_the_model_does_not_have_give_no_boxes() -> None:
    assert find_boxes(pb.Inference(), config(), SQUARE, ()) == []
    assert find_boxes(inference([1, 1, 9, 9], [], []), config(), SQUARE, ()) == []


numbers = st.lists(st.floats(width=32), max_size=40)


@settings(max_examples=100)
@given(numbers, numbers, st.lists(st.integers(-(2**63), 2**63 - 1), max_size=10))
def test_any_numbers_give_boxes_inside_of_the_frame(
    boxes: list[float], scores: list[float], classes: list[int]
) -> None:
    result = inference(boxes, scores, classes)
    for box in find_boxes(result, config(min_score=0), SQUARE, LABELS):
        assert 0 <= box.left < box.right <= 1
        assert 0 <= box.top < box.bottom <= 1


def test_labels_come_before_numbers() -> None:
    event = pb.AnalysisResult()
    event.inference.outputs.add(name="raw", datatype="FP32", numbers=[1, 2])
    output = event.inference.outputs.add(name="scores", datatype="FP32")
    output.labels.add(label="cat", score=0.98)
    output.labels.add(index=7)
    assert captions(event, ()) == ["cat 0.98", "7"]
    assert captions(event, ["scores"]) == ["raw: 1 2"]


def test_without_labels_the_first_numbers_and_texts_are_shown() -> None:
    event = pb.AnalysisResult()
    event.inference.outputs.add(name="digit", datatype="INT64", integers=[7])
    event.inference.outputs.add(name="scores", datatype="FP32", numbers=[i / 8 for i in range(9)])
    event.inference.outputs.add(name="plate", datatype="BYTES", texts=[b"M-X 12\n"])
    assert captions(event, ()) == [
        "digit: 7",
        "scores: 0 0.125 0.25 0.375 0.5 ...",
        "plate: M-X 12?",
    ]


def test_a_failure_is_shown() -> None:
    event = pb.AnalysisResult(failure=pb.Failure(reason="deadline", detail="not shown"))
    assert captions(event, ()) == ["failed: deadline"]


def test_text_is_bounded() -> None:
    event = pb.AnalysisResult()
    for _ in range(50):
        output = event.inference.outputs.add(name="n" * 200, datatype="BYTES")
        output.texts.append(b"\xff\x1b[31m" + b"x" * 100_000)
    lines = captions(event, ())
    assert len(lines) == MAX_LINES
    assert all(len(line) <= MAX_TEXT and line.isprintable() for line in lines)


def test_a_box_is_drawn_where_it_is() -> None:
    pixels = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    drawn = draw(pixels, [Box(0.5, 0.5, 0.75, 0.75, 0, "")], [], None)
    rows, columns = np.nonzero(drawn.any(axis=2))
    assert (columns.min(), columns.max()) == pytest.approx((160, 239), abs=1)
    assert (rows.min(), rows.max()) == pytest.approx((120, 179), abs=1)
    assert not pixels.any()


def test_a_line_is_drawn_at_the_top() -> None:
    pixels = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    drawn = draw(pixels, [], ["cat 0.98"], None)
    assert drawn.max() > 200
    assert np.nonzero(drawn.any(axis=2))[0].max() < 30


def model(**video: Any) -> Model:
    return Model.model_validate(
        {
            "stable": "v1",
            "versions": {"v1": {"protocol": "grpc", "endpoints": [{"address": "127.0.0.1:1"}]}},
            "inputs": [{"name": "image", "datatype": "BYTES", "shape": [-1]}],
            "video": video,
        }
    )


def frame(number: int = 0, *, broken: bool = False) -> Frame:
    pixels = np.full((HEIGHT, WIDTH, 3), 128, dtype=np.uint8)
    data = b"\xff\xd8 no image" if broken else simplejpeg.encode_jpeg(pixels)
    return Frame(number, 0.0, 0.0, 0.0, EncodedImage(data))


def event(number: int = 0) -> pb.AnalysisResult:
    result = pb.AnalysisResult(frame=number, width=WIDTH, height=HEIGHT)
    result.inference.CopyFrom(inference([160, 120, 240, 180], [0.9], [1]))
    return result


def decoded(jpeg: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(jpeg)) as picture:
        return np.asarray(picture)


def test_a_frame_gets_its_boxes() -> None:
    names = {"boxes": "boxes", "scores": "scores", "classes": "classes"}
    pixels = decoded(Annotator(model(boxes=names), None, None).jpeg(event(), frame()))
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert abs(pixels[150, 200].astype(int) - 128).max() < 8  # inside of the box
    assert abs(pixels[150, 160].astype(int) - 128).max() > 20  # its left edge
    assert abs(pixels[179, 220].astype(int) - 128).max() > 20  # its bottom


def test_a_frame_shows_the_region_that_the_model_gets() -> None:
    region = Region(left=0.5, top=0.5, width=0.25, height=0.25)
    pixels = decoded(Annotator(model(), region, None).jpeg(event(), frame()))
    assert pixels[130, 160].min() > 160


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


class Counting(Annotator):
    """Counts the pictures, and keeps the number of the last frame."""

    drawn = 0
    last = -1

    def jpeg(self, event: pb.AnalysisResult, frame: Frame) -> bytes:
        self.drawn += 1
        self.last = frame.number
        return super().jpeg(event, frame)


def test_a_watcher_gets_the_newest_frame_and_nothing_is_drawn_before(
    executor: ThreadPoolExecutor,
) -> None:
    async def run() -> None:
        annotator = Counting(model(), None, None)
        output = MjpegOutput(annotator, executor)
        for number in range(5):
            assert output.ready()
            output.put(event(number), frame(number))
        assert annotator.drawn == 0
        assert decoded(await output.next_image()).shape == (HEIGHT, WIDTH, 3)
        assert (annotator.drawn, annotator.last) == (1, 4)
        waiting = asyncio.create_task(output.next_image())
        await asyncio.sleep(0)
        output.put(event(5), None)  # the end of a session has no frame
        output.put(event(6), frame(6, broken=True))
        output.put(event(7), frame(7))
        assert await waiting
        output.close()
        assert await output.next_image() == b""

    asyncio.run(run())


def test_a_broken_frame_is_left_out(executor: ThreadPoolExecutor) -> None:
    async def run() -> None:
        output = MjpegOutput(Annotator(model(), None, None), executor)
        output.put(event(), frame(broken=True))
        waiting = asyncio.create_task(output.next_image())
        await asyncio.sleep(0)
        output.put(event(1), frame(1))
        assert await asyncio.wait_for(waiting, 20)

    asyncio.run(run())


def test_pictures_of_another_worker_pass(executor: ThreadPoolExecutor) -> None:
    async def run() -> None:
        output = MjpegOutput(Annotator(model(), None, None), executor)
        output.take(pb.Watched(images=[b"old", b"new"]))
        assert await output.next_image() == b"new"

    asyncio.run(run())


def test_a_picture_is_a_part_that_ends_with_the_boundary() -> None:
    part = mjpeg_part(b"\xff\xd8JPEG\xff\xd9")
    head, _, rest = part.partition(b"\r\n\r\n")
    assert head == b"content-type: image/jpeg\r\ncontent-length: 8"
    assert rest == b"\xff\xd8JPEG\xff\xd9\r\n--" + BOUNDARY.encode() + b"\r\n"
