"""Asks Envoy to wait longer for a response that takes the callout more time than usual."""

import asyncio
from types import TracebackType

from extproc.rpc import Call
from extproc.services.ext_proc import messages

_SHARE = 0.2
"""Share of the message timeout after which the callout asks for more time. A response that is ready
before takes no message more. The rest is for an event loop that is late."""


class MoreTime:
    """While the block runs, Envoy does not give up waiting for the response to a message.

    The callout asks again and again: if Envoy sends another chunk of a body meanwhile, Envoy starts
    the usual timeout again, and accepts another request for more time. Other requests are ignored.

    `timeout` is Envoy's message timeout, `work` the time that the callout allows for the response.
    Envoy waits longer than `work`, so the client gets the callout's own reason. Times are seconds.
    """

    __slots__ = ("_call", "_interval", "_seconds", "_timer")

    def __init__(self, call: Call, timeout: float, work: float) -> None:
        self._call = call
        self._interval = _SHARE * timeout
        self._seconds = timeout + work
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        self._start_timer()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._timer is not None
        self._timer.cancel()

    def _ask(self) -> None:
        self._call.send(messages.more_time(self._seconds))
        self._start_timer()

    def _start_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._interval, self._ask)
