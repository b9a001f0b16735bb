"""A small camera of a test, which answers as the test says."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

SDP = """v=0
o=- 0 0 IN IP4 127.0.0.1
s=film
t=0 0
a=control:*
m=audio 0 RTP/AVP 0
a=control:track0
m=video 0 RTP/AVP 96
a=rtpmap:96 {encoding}/90000
a=control:track1
"""
BYE = b"\x81\xcb\0\1\0\0\0\7"


@dataclass(slots=True)
class Request:
    """A request that arrived."""

    method: str
    url: str
    headers: dict[str, str]


Answer = Callable[[Request], bytes | None]


def response(request: Request, status: int = 200, body: str = "", **headers: str) -> bytes:
    """A response. Underscores in names of headers are dashes."""
    lines = [f"RTSP/1.0 {status} Text", f"CSeq: {request.headers.get('cseq', '0')}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join((*lines, "", body)).encode()


def interleaved(packet: bytes, channel: int = 0) -> bytes:
    """A packet on the connection."""
    return b"$" + bytes((channel,)) + len(packet).to_bytes(2) + packet


def film(
    packets: Sequence[bytes], encoding: str = "H264", sdp: str = SDP, end: bytes = BYE
) -> Answer:
    """A camera that sends packets after PLAY, and then says that the film ends."""

    def answer(request: Request) -> bytes | None:
        match request.method:
            case "DESCRIBE":
                return response(request, body=sdp.format(encoding=encoding))
            case "SETUP":
                transport = request.headers["transport"]
                return response(request, Session="5;timeout=60", Transport=transport)
            case "PLAY":
                data = b"".join(map(interleaved, packets))
                return response(request, Session="5") + data + (end and interleaved(end, 1))
        return None

    return answer


@dataclass(slots=True)
class Camera:
    """The server. `requests` are all that arrived."""

    url: str
    requests: list[Request] = field(default_factory=list)


@contextlib.contextmanager
def camera(answer: Answer) -> Iterator[Camera]:
    """A camera that answers each request with bytes. None is no answer, b"" ends the connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        served = Camera(f"rtsp://127.0.0.1:{server.getsockname()[1]}/film")
        threading.Thread(target=_serve, args=(server, answer, served), daemon=True).start()
        yield served


def _serve(server: socket.socket, answer: Answer, served: Camera) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = server.accept()
            thread = threading.Thread(target=_answer, args=(connection, answer, served))
            thread.daemon = True
            thread.start()


def _answer(connection: socket.socket, answer: Answer, served: Camera) -> None:
    buffer = b""
    with connection, contextlib.suppress(OSError):
        while data := connection.recv(65_536):
            buffer += data
            while buffer.startswith(b"$") and len(buffer) >= 4:
                buffer = buffer[4 + int.from_bytes(buffer[2:4]) :]
            while b"\r\n\r\n" in buffer:
                head, _, buffer = buffer.partition(b"\r\n\r\n")
                first, *lines = head.decode().split("\r\n")
                method, url, _ = first.split(" ")
                pairs = (line.split(": ", 1) for line in lines)
                request = Request(method, url, {name.lower(): value for name, value in pairs})
                served.requests.append(request)
                reply = answer(request)
                if reply == b"":
                    return
                connection.sendall(reply or b"")
