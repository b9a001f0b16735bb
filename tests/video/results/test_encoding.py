"""Events in the encodings of clients and sinks."""

import json
import timeit

import pytest
from google.protobuf.internal.decoder import _DecodeVarint  # type: ignore[attr-defined]

from protos import video_pb2 as pb
from video.results.encoding import (
    EVENTS,
    Encoding,
    NotAcceptableError,
    choose_encoding,
    encode,
    encode_delimited,
    encode_ndjson,
    encode_sse,
    heartbeat,
)


def result() -> pb.AnalysisResult:
    event = pb.AnalysisResult(
        id="door-7",
        stream="door",
        model="digits",
        frame=7,
        time=0.5,
        captured_us=1_790_000_000_000_000,
        width=640,
        height=480,
        timings=pb.Timings(decode=1.1, total=20.3),
    )
    event.inference.model_version = "v1"
    output = event.inference.outputs.add(name="scores", datatype="FP32", shape=[3])
    output.numbers.extend([0.8999999761581421, 0.10000000149011612, float("nan")])
    output.labels.add(label="cat", index=0, score=0.9)
    return event


def failure() -> pb.AnalysisResult:
    return pb.AnalysisResult(id="door-8", failure=pb.Failure(reason="deadline", detail="too\nlate"))


def end() -> pb.AnalysisResult:
    counts = pb.Counts(received=3, frames=2, drops={"sink": 1, "overload": 2})
    return pb.AnalysisResult(id="door-end", end=pb.Summary(counts=counts))


def test_ndjson_is_one_line_with_the_result() -> None:
    line = encode_ndjson(result())
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line) == {
        "id": "door-7",
        "stream": "door",
        "model": "digits",
        "frame": 7,
        "time": 0.5,
        "captured_us": 1_790_000_000_000_000,
        "width": 640,
        "height": 480,
        "timings": {"decode": 1.1, "convert": 0, "wait": 0, "inference": 0, "total": 20.3},
        "inference": {
            "model_version": "v1",
            "outputs": [
                {
                    "name": "scores",
                    "datatype": "FP32",
                    "shape": [3],
                    "data": [0.9, 0.1, None],
                    "labels": [{"label": "cat", "index": 0, "score": 0.9}],
                }
            ],
        },
    }


def test_ndjson_has_failures_and_the_end() -> None:
    assert json.loads(encode_ndjson(failure()))["failure"] == {
        "reason": "deadline",
        "detail": "too\nlate",
    }
    counts = json.loads(encode_ndjson(end()))["end"]["counts"]
    assert counts["received"] == 3
    assert counts["drops"] == {"overload": 2, "sink": 1}


@pytest.mark.parametrize(
    ("output", "data"),
    [
        (pb.Output(datatype="BOOL", integers=[0, 1]), [False, True]),
        (pb.Output(datatype="INT64", integers=[-(2**63)]), [-(2**63)]),
        (pb.Output(datatype="UINT64", unsigned_integers=[2**64 - 1]), [2**64 - 1]),
        (pb.Output(datatype="FP16", numbers=[0.0999755859375]), [0.1]),
        (pb.Output(datatype="FP64", numbers=[0.1, float("inf")]), [0.1, None]),
        (pb.Output(datatype="BYTES", texts=["é".encode(), b"\xff"]), ["é", {"b64": "/w=="}]),
    ],
)
def test_json_has_the_elements_of_every_datatype(output: pb.Output, data: list[object]) -> None:
    event = pb.AnalysisResult(inference=pb.Inference(outputs=[output]))
    found = json.loads(encode_ndjson(event))["inference"]["outputs"][0]["data"]
    assert found == pytest.approx(data, abs=1e-4) if output.datatype == "FP16" else found == data


@pytest.mark.parametrize(
    ("event", "name"), [(result(), b"result"), (failure(), b"failure"), (end(), b"end")]
)
def test_a_server_sent_event_has_id_name_and_one_line_of_data(
    event: pb.AnalysisResult, name: bytes
) -> None:
    lines = encode_sse(event).split(b"\n")
    assert lines[0] == b"id: " + event.id.encode()
    assert lines[1] == b"event: " + name
    assert lines[2] == b"data: " + encode_ndjson(event).rstrip()
    assert lines[3:] == [b"", b""]


def test_an_id_cannot_add_lines_to_a_server_sent_event() -> None:
    text = encode_sse(pb.AnalysisResult(id="a\n\nevent: end\ndata: {}"))
    assert [line.partition(b":")[0] for line in text.split(b"\n") if line] == [b"event", b"data"]


def test_the_length_of_a_message_stands_before_it() -> None:
    stream = b"".join(encode_delimited(event) for event in (result(), failure(), end()))
    position, read = 0, []
    while position < len(stream):
        size, position = _DecodeVarint(stream, position)
        read.append(pb.AnalysisResult.FromString(stream[position : position + size]))
        position += size
    assert [event.id for event in read] == ["door-7", "door-8", "door-end"]


def test_only_server_sent_events_have_a_heartbeat() -> None:
    assert heartbeat(Encoding.SSE) == b":\n\n"
    assert [heartbeat(each) for each in (Encoding.NDJSON, Encoding.PROTOBUF)] == [b"", b""]


def test_the_encoding_is_the_one_that_was_chosen() -> None:
    event = result()
    assert [encode(each, event) for each in EVENTS] == [
        encode_ndjson(event),
        encode_sse(event),
        encode_delimited(event),
    ]


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, Encoding.NDJSON),
        ("", Encoding.NDJSON),
        ("*/*", Encoding.NDJSON),
        ("application/x-ndjson", Encoding.NDJSON),
        ("text/event-stream", Encoding.SSE),
        ("text/*", Encoding.SSE),
        ("text/event-stream, */*", Encoding.SSE),
        ("Application/X-Protobuf", Encoding.PROTOBUF),
        ("application/protobuf, application/x-ndjson;q=0.5", Encoding.PROTOBUF),
        ("application/x-protobuf;q=0.2, */*;q=0.1", Encoding.PROTOBUF),
        ("application/x-ndjson;q=0, application/*", Encoding.PROTOBUF),
        ("image/png, */*;q=0.1", Encoding.NDJSON),
        ("application/x-ndjson, text/event-stream", Encoding.NDJSON),
    ],
)
def test_accept_chooses_the_encoding(accept: str | None, chosen: Encoding) -> None:
    assert choose_encoding(accept) is chosen


def test_annotated_frames_are_chosen_only_where_they_are_offered() -> None:
    accept = "multipart/x-mixed-replace"
    assert choose_encoding(accept, tuple(Encoding)) is Encoding.MJPEG
    with pytest.raises(NotAcceptableError):
        choose_encoding(accept)


@pytest.mark.parametrize("accept", ["application/json", "image/*", "*/*;q=0"])
def test_other_types_are_not_acceptable_and_the_error_names_those_that_are(accept: str) -> None:
    with pytest.raises(NotAcceptableError) as refused:
        choose_encoding(accept)
    assert "application/x-ndjson, text/event-stream, application/x-protobuf" in str(refused.value)


def test_a_small_event_is_written_in_microseconds() -> None:
    event = result()
    runs = timeit.repeat(lambda: encode_ndjson(event), number=200, repeat=5)
    assert min(runs) / 200 < 100e-6
