"""One connection to an MQTT broker. paho-mqtt runs it on a thread of its own."""

import asyncio
import ssl
import threading
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

_KEEPALIVE: Final = 30
"""Seconds. A broker that says nothing for longer is lost."""
_MAX_IN_FLIGHT: Final = 100
"""Messages without an acknowledgement."""

Argument = TypeVar("Argument")


class MqttSession:
    """Connects once, and publishes until the connection is lost. Not used again after an error."""

    def __init__(
        self,
        client_id: str,
        username: str | None,
        password: str | None,
        tls: ssl.SSLContext | None,
        timeout: float,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._connected: asyncio.Future[None] = self._loop.create_future()
        self._acknowledged: asyncio.Future[None] | None = None
        self._outstanding: set[int] = set()
        self._lost = ""
        self._runs = self._is_closed = False
        self._client = client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, reconnect_on_failure=False
        )
        client.connect_timeout = timeout
        client.max_inflight_messages_set(_MAX_IN_FLIGHT)
        if username is not None:
            client.username_pw_set(username, password)
        if tls is not None:
            client.tls_set_context(tls)
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect

    async def connect(self, host: str, port: int) -> None:
        """Return when the broker has accepted the client. Raises OSError."""
        # On a thread of its own: a broker can hold up the TLS handshake for longer than the caller
        # waits, and other sinks need the threads of the event loop.
        threading.Thread(target=self._open, args=(host, port), name="mqtt", daemon=True).start()
        await self._connected

    async def publish(self, topic: str, messages: Sequence[bytes]) -> None:
        """Return when the broker has acknowledged all messages. Raises OSError."""
        self._acknowledged = self._loop.create_future()
        for message in messages:
            sent = self._client.publish(topic, message, qos=1)
            if sent.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
                raise ConnectionError(self._lost or mqtt.error_string(sent.rc))
            self._outstanding.add(sent.mid)
        if self._lost:
            raise ConnectionError(self._lost)
        await self._acknowledged

    async def close(self) -> None:
        """Disconnect, and end the thread."""
        self._is_closed = True
        if self._runs:
            self._client.disconnect()
            await asyncio.to_thread(self._client.loop_stop)

    def _open(self, host: str, port: int) -> None:
        try:
            self._client.connect(host, port, _KEEPALIVE)
        except Exception as error:
            self._call(self._failed, error)
        else:
            self._call(self._opened, self._client)

    def _on_connect(
        self,
        client: mqtt.Client,
        userdata: object,
        flags: mqtt.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self._call(self._accepted, f"refused: {reason}" if reason.is_failure else "")

    def _on_publish(
        self,
        client: mqtt.Client,
        userdata: object,
        mid: int,
        reason: ReasonCode,
        properties: Properties,
    ) -> None:
        self._call(self._confirmed, mid)

    def _on_disconnect(
        self,
        client: mqtt.Client,
        userdata: object,
        flags: mqtt.DisconnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self._call(self._closed, f"the connection was lost: {reason}")

    def _call(self, handler: Callable[[Argument], None], argument: Argument) -> None:
        """Run a handler on the event loop, from the thread of the client."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(handler, argument)

    def _failed(self, error: Exception) -> None:
        if not self._connected.done():
            self._connected.set_exception(error)

    def _opened(self, client: mqtt.Client) -> None:
        if self._is_closed:
            client.disconnect()
        else:
            client.loop_start()
            self._runs = True

    def _accepted(self, refusal: str) -> None:
        if self._connected.done():
            return
        if refusal:
            self._connected.set_exception(ConnectionError(refusal))
        else:
            self._connected.set_result(None)

    def _confirmed(self, mid: int) -> None:
        self._outstanding.discard(mid)
        if not self._outstanding and self._acknowledged and not self._acknowledged.done():
            self._acknowledged.set_result(None)

    def _closed(self, cause: str) -> None:
        self._lost = cause
        for waiting in (self._connected, self._acknowledged):
            if waiting is not None and not waiting.done():
                waiting.set_exception(ConnectionError(cause))
                # The owner may have left.
                waiting.exception()
