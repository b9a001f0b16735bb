"""The pure parts: messages, authentication, session descriptions, packets, pictures."""

import contextlib
import io
import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageStat

from tests.video.sources.rtsp.packets import nals, packets, pictures, rtp
from tests.video.sources.samples import encoded
from video.sources.rtsp.authentication import Authorizer, Credentials
from video.sources.rtsp.jpeg import JpegImages
from video.sources.rtsp.messages import (
    Interleaved,
    Response,
    RtspError,
    RtspParser,
    encode_interleaved,
)
from video.sources.rtsp.nal_units import NalUnits
from video.sources.rtsp.rtp import (
    PacketOrder,
    TimestampClock,
    empty_report,
    is_bye,
    read_rtp,
    receiver_report,
)
from video.sources.rtsp.sdp import read_videos, resolve

MESSAGES = (
    b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 4\r\nX: a\r\nx: b\r\n\r\nbody"
    + encode_interleaved(1, b"packet")
    + b"ANNOUNCE rtsp://h/ RTSP/1.0\r\nCSeq: 9\r\n\r\n"
    + encode_interleaved(0, b"")
    + b"RTSP/1.0 454 \r\n\r\n"
)


@given(st.lists(st.integers(1, 40)))
def test_messages_and_packets_come_however_they_are_cut(cuts: list[int]) -> None:
    parser, found, rest = RtspParser(), [], MESSAGES
    for cut in cuts:
        found += parser.feed(rest[:cut])
        rest = rest[cut:]
    found += parser.feed(rest)
    first, packet, empty, last = found
    assert isinstance(first, Response)
    assert (first.status, first.body, first.headers["x"]) == (200, b"body", ["a", "b"])
    assert (packet, empty) == (Interleaved(1, b"packet"), Interleaved(0, b""))
    assert isinstance(last, Response)
    assert last.status == 454


@given(st.binary(max_size=500))
def test_any_bytes_are_messages_or_an_error(data: bytes) -> None:
    data = data.replace(b"E", b"\r\n\r\n").replace(b"R", b"RTSP/1.0 200 OK\r\n")
    with contextlib.suppress(RtspError):
        list(RtspParser().feed(data))


@pytest.mark.parametrize("length", ["-1", "1e3", "70000", "0" * 9 + "70000", "9" * 5000])
def test_a_body_whose_length_is_not_valid_is_not_awaited(length: str) -> None:
    head = f"RTSP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\n"
    with pytest.raises(RtspError, match="body"):
        list(RtspParser().feed(head.encode()))


def test_digest_is_that_of_the_standard() -> None:
    # RFC 7616, section 3.9.1, with MD5.
    authorizer = Authorizer(
        Credentials("Mufasa", "Circle of Life"),
        lambda: "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
    )
    assert authorizer.accept(
        [
            'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=MD5,'
            ' nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",'
            ' opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
        ]
    )
    header = authorizer.header("GET", "/dir/index.html") or ""
    assert 'response="8ca523f5e9506fed4657c9700eebdbec"' in header
    assert 'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"' in header
    assert "nc=00000001" in header
    assert "nc=00000002" in (authorizer.header("GET", "/") or "")


def test_digest_is_preferred_to_basic() -> None:
    authorizer = Authorizer(Credentials("u", "p"), lambda: "c")
    assert authorizer.accept(['Basic realm="x"', 'Digest realm="x", nonce="n"'])
    assert (authorizer.header("GET", "/") or "").startswith("Digest ")
    assert not Authorizer(Credentials("u", "p"), lambda: "c").accept(["Bearer", "Digest x"])


@pytest.mark.parametrize(
    ("base", "control", "url"),
    [
        ("rtsp://h/film", "track1", "rtsp://h/film/track1"),
        ("rtsp://h/film/", "track1", "rtsp://h/film/track1"),
        ("rtsp://h/film?a=b", "track1", "rtsp://h/film?a=b/track1"),
        ("rtsp://h/film", "*", "rtsp://h/film"),
        ("rtsp://h/film", "rtsp://h/other", "rtsp://h/other"),
        ("rtsp://h/film/", "//[", "rtsp://h/film/"),
    ],
)
def test_control_urls(base: str, control: str, url: str) -> None:
    assert resolve(base, control) == url


@given(st.text(max_size=300))
def test_any_text_is_a_session_description(text: str) -> None:
    text = text.replace("m", "\nm=video 0 RTP/AVP 96").replace("a", "\na=fmtp:96 ")
    for media in read_videos(text, "rtsp://h/")[0]:
        assert media.clock_rate > 0
        assert media.configuration is None or media.configuration.startswith(b"\0\0\0\1")


@given(st.binary(max_size=100))
def test_any_bytes_are_a_packet_or_none(data: bytes) -> None:
    packet = read_rtp(data)
    assert packet is None or packet.payload
    is_bye(data)


def test_reports_have_the_length_that_they_say() -> None:
    for report in (empty_report(1), receiver_report(1, 2, PacketOrder(reorders=True))):
        assert len(report) == 4 + 4 * int.from_bytes(report[2:4])
        assert not is_bye(report)
    assert is_bye(empty_report(1) + b"\x81\xcb\0\1\0\0\0\7")


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 0xFFFF), st.integers(1, 20))
def test_packets_that_are_a_little_out_of_order_come_in_order(
    shuffle: random.Random, first: int, span: int
) -> None:
    sent = [read_rtp(rtp(first + n, 0, b"x")) for n in range(80)]
    keyed = sorted(range(80), key=lambda n: n if n == 0 else n + shuffle.uniform(0, span))
    order, found = PacketOrder(reorders=True), []
    for index in keyed:
        packet = sent[index]
        assert packet is not None
        found += order.add(packet, 0.0)
    assert [each.sequence for each in found] == [(first + n) & 0xFFFF for n in range(80)]
    assert not any(each.after_loss for each in found)
    assert order.lost == 0


@given(st.sets(st.integers(1, 198), max_size=50), st.booleans(), st.integers(0, 0xFFFF))
def test_losses_are_found(lost: set[int], reorders: bool, first: int) -> None:
    order, found = PacketOrder(reorders=reorders), []
    for number in set(range(200)) - lost:
        packet = read_rtp(rtp(first + number, 0, bytes((number,))))
        assert packet is not None
        found += order.add(packet, number * 0.1)
    numbers = [each.payload[0] for each in found]
    assert numbers == sorted(set(range(200)) - lost)[: len(numbers)]
    assert len(numbers) >= 200 - len(lost) - 2
    for before, each in pairwise(found):
        assert each.after_loss == (each.payload[0] != before.payload[0] + 1)


@given(st.integers(0, 0xFFFFFFFF), st.lists(st.integers(-90_000, 900_000), max_size=50))
def test_timestamps_do_not_wrap_around(start: int, steps: list[int]) -> None:
    clock, exact = TimestampClock(90_000), start
    assert clock.seconds(start) == start / 90_000
    for step in steps:
        exact += step
        assert clock.seconds(exact & 0xFFFFFFFF) == exact / 90_000


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_pictures_are_assembled(codec: str) -> None:
    stream = encoded(codec, form=codec, count=30)
    units, found = NalUnits(codec), []
    for data in packets(stream, codec):
        packet = read_rtp(data)
        assert packet is not None
        found += units.add(packet)
    assert [nals(each.data or b"") for each in found] == pictures(stream, codec)
    assert len({each.timestamp for each in found}) == 30


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.binary(min_size=1, max_size=30), st.booleans(), st.booleans())))
@pytest.mark.parametrize("units", ["h264", "hevc", "jpeg"])
def test_any_payloads_are_assembled(units: str, sent: list[tuple[bytes, bool, bool]]) -> None:
    assembler = JpegImages() if units == "jpeg" else NalUnits(units)
    for number, (payload, marker, loss) in enumerate(sent):
        packet = read_rtp(rtp(number, number // 3, payload, marker=marker))
        assert packet is not None
        packet.after_loss = loss
        list(assembler.add(packet))


@pytest.mark.parametrize("quality", [10, 50, 90, 255])
@pytest.mark.parametrize("kind", [0, 1])
def test_a_jpeg_image_is_rebuilt(quality: int, kind: int) -> None:
    image = Image.effect_noise((64, 48), 40).convert("RGB").resize((64, 48))
    file = io.BytesIO()
    jpeg_quality = 75 if quality == 255 else quality
    image.save(file, "JPEG", quality=jpeg_quality, subsampling=1 + kind)
    data = file.getvalue()
    scan = data[data.index(b"\xff\xda") + 14 : -2]
    assert [data[i + 5 : i + 69] for i in _tables(data)]
    tables = b"".join(data[i + 5 : i + 69] for i in _tables(data))
    quantization = b"\0\0\0\x80" + tables if quality == 255 else b""
    units, found = JpegImages(), []
    for start in range(0, len(scan), 200):
        head = b"\0" + start.to_bytes(3) + bytes((kind, quality, 8, 6))
        payload = head + (quantization if start == 0 else b"") + scan[start : start + 200]
        packet = read_rtp(rtp(start // 200, 1, payload, marker=start + 200 >= len(scan)))
        assert packet is not None
        found += units.add(packet)
    assert len(found) == 1
    assert found[0].data is not None
    rebuilt = Image.open(io.BytesIO(found[0].data))
    difference = ImageChops.difference(rebuilt.convert("RGB"), Image.open(file).convert("RGB"))
    assert max(ImageStat.Stat(difference).mean) < 1


def _tables(data: bytes) -> list[int]:
    first = data.index(b"\xff\xdb")
    return [first, data.index(b"\xff\xdb", first + 69)]


def test_an_image_with_a_missing_packet_has_no_data() -> None:
    units = JpegImages()
    head = bytes((0, 0, 0, 0, 1, 50, 8, 6))
    first = read_rtp(rtp(0, 1, head + b"x" * 50))
    last = read_rtp(rtp(2, 1, bytes((0, 0, 0, 100, 1, 50, 8, 6)) + b"y" * 50, marker=True))
    assert first is not None
    assert last is not None
    assert not list(units.add(first))
    assert [each.data for each in units.add(last)] == [None]
