"""Sends requests for frames to the listener of the gateway, over gRPC."""

import asyncio
import os
from collections.abc import Iterable
from itertools import cycle
from pathlib import Path
from typing import Final

import grpc
from google.protobuf.message import DecodeError

from protos.inference_pb2 import ModelInferResponse
from sluice.config.secrets import system_roots_file
from sluice.config.video import GatewayTls
from sluice.contract.grpc import StatusCode
from sluice.contract.video import VideoReason
from sluice.version import USER_AGENT
from video.inference.caller_headers import Metadata
from video.inference.failure import Failure, InferenceError, failure_of

MODEL_INFER: Final = "/inference.GRPCInferenceService/ModelInfer"

MAX_RESPONSE: Final = 16 << 20
"""Bytes of a response. The outputs for one frame in an event are much smaller."""

CHANNELS: Final = 2
"""Connections of a worker. Envoy serves each on one of its threads."""

_OPTIONS: Final = (
    ("grpc.primary_user_agent", USER_AGENT),
    ("grpc.max_send_message_length", -1),  # the gateway has a limit of its own (max_body)
    ("grpc.max_receive_message_length", MAX_RESPONSE),
    # Without it, channels with the same address share one connection.
    ("grpc.use_local_subchannel_pool", 1),
    # Requests wait for a gateway that is restarted. The default is up to 2 minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 300),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.enable_retries", 0),
    ("grpc.service_config_disable_resolution", 1),
    # An upload must not reach the gateway through the proxy of `http_proxy`.
    ("grpc.enable_http_proxy", 0),
)

_CODES: Final = {code: StatusCode(code.value[0]) for code in grpc.StatusCode}


class GatewayClient:
    """A client for the gateway at `host:port`. Create it on the event loop, and close it.

    `tls`: without it, the requests are not encrypted. Raises OSError if its files cannot be read.
    """

    def __init__(self, address: str, tls: GatewayTls | None = None) -> None:
        self._channels = [_channel(address, tls) for _ in range(CHANNELS)]
        self._methods = cycle(
            [(channel, channel.unary_unary(MODEL_INFER)) for channel in self._channels]
        )

    async def infer(self, request: bytes, metadata: Metadata, within: float) -> ModelInferResponse:
        """Send a serialized ModelInferRequest. Raises InferenceError.

        Without a connection to the gateway, the request waits for one. `metadata`: with the name of
        the model (see `call_metadata`). `within`: seconds until the response. If the task is
        cancelled, the request goes on until then, without a reader: grpc.aio leaks a kilobyte for
        each call that is cancelled (grpc/grpc issue 43360).
        """
        channel, method = next(self._methods)
        call = method(request, timeout=within, metadata=metadata, wait_for_ready=True)
        ended = asyncio.get_running_loop().create_future()
        call.add_done_callback(lambda _: None if ended.done() else ended.set_result(None))
        await ended
        try:
            content: bytes = await call
        except grpc.aio.AioRpcError as error:
            raise InferenceError(_failure(error, channel)) from None
        try:
            return ModelInferResponse.FromString(content)
        except DecodeError:
            failure = Failure(VideoReason.MODEL_FAILED, "the response is not a ModelInferResponse")
            raise InferenceError(failure) from None

    async def close(self) -> None:
        """Close the connections. Requests in flight fail."""
        for channel in self._channels:
            await channel.close()


def _channel(address: str, tls: GatewayTls | None) -> grpc.aio.Channel:
    options: list[tuple[str, str | int]] = [*_OPTIONS]
    if tls is None:
        return grpc.aio.insecure_channel(address, options=options)
    if tls.server_name is not None:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    file = Path(tls.ca) if tls.ca is not None else system_roots_file(os.environ)
    roots = None if file is None else file.read_bytes()
    credentials = grpc.ssl_channel_credentials(root_certificates=roots)
    return grpc.aio.secure_channel(address, credentials, options=options)


def _failure(error: grpc.aio.AioRpcError, channel: grpc.aio.Channel) -> Failure:
    connected = channel.get_state() is grpc.ChannelConnectivity.READY
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and not connected:
        detail = "there is no connection to the gateway"
        return Failure(VideoReason.GATEWAY_UNREACHABLE, detail)
    metadata: Iterable[tuple[str, str | bytes]] = (
        *(error.initial_metadata() or ()),
        *(error.trailing_metadata() or ()),
    )
    return failure_of(_CODES[error.code()], error.details() or "", metadata)
