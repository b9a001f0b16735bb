"""Converts a REST request for the readiness or the metadata of a model to a gRPC call."""

from collections.abc import Awaitable

from extproc.services.ext_proc import messages
from extproc.services.ext_proc.body_handler import Result
from extproc.services.ext_proc.conversion import ConvertBody
from extproc.services.responses import Headers
from protos.ext_proc_pb2 import HttpBody


class ConvertQuery(ConvertBody):
    """Converts a request without a body, and the response."""

    __slots__ = ()

    mode = messages.CONVERT_CALL

    def call(self) -> tuple[bytes, Headers, list[str]]:
        """The body of the gRPC call, the headers to set and the headers to remove."""
        converted = self._converter.convert_request(b"", self._headers)
        content, headers, removed = self._forwarded(converted)
        return bytes(content), headers, removed

    def response_body(self, body: HttpBody) -> Result | Awaitable[Result]:
        """Respond with the converted message.

        The response is one of the gateway, because Envoy sends no body of it to a HEAD request.
        """
        self._response_begun = bool(body.body)
        return self._convert_status("response_body", body.body)
