"""A call of ext_proc without a transport."""

from collections.abc import Sequence

from extproc.rpc import StatusCode
from extproc.segments import Content
from protos.ext_proc_pb2 import ProcessingResponse


class RecordedCall:
    """Keeps the responses of its handler."""

    metadata: Sequence[tuple[str, str | bytes]] = ()
    deadline = None

    def __init__(self) -> None:
        self.responses: list[ProcessingResponse] = []

    def send(self, message: Content) -> None:
        self.responses.append(ProcessingResponse.FromString(bytes(message)))

    async def writable(self) -> None:
        """Never blocks."""

    def finish(self, code: StatusCode = StatusCode.OK, details: str = "") -> None:
        """Does nothing."""
