"""Sends batches of frames to the model, and gives each frame its outcome."""

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from protos.inference_pb2 import ModelInferResponse
from sluice.config.models import Model
from sluice.config.tensors import TensorInput
from sluice.contract.video import VideoReason
from video.conversion import batch_tensor
from video.inference.caller_headers import Metadata
from video.inference.failure import MAX_DETAIL, Failure, InferenceError, deadline_passed
from video.inference.gateway import GatewayClient
from video.inference.pending import Converter, PendingFrame
from video.inference.request import infer_request
from video.inference.retries import retry_delay
from video.results.inference import ResultError, read_inferences

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Target:
    """The model that gets the frames, and the metadata of the requests."""

    name: str
    model: Model
    declared: TensorInput
    metadata: Metadata
    deadline_from_arrival: bool
    """Whether the deadline counts from the arrival of a frame, or from its slot."""

    @property
    def has_batch(self) -> bool:
        """Whether the first dimension of the input counts frames."""
        image, shape = self.declared.image, self.declared.shape
        return len(shape) == 4 if image is not None else len(shape) > 0


class FrameSender:
    """Sends the frames of one session.

    `converter` converts the frames that the source thread has not converted, on a thread of
    `executor`. `keeps_frames`: whether an output wants the frames.
    """

    def __init__(
        self, target: Target, gateway: GatewayClient, converter: Converter, executor: Executor
    ) -> None:
        assert target.model.video is not None
        self.keeps_frames = False
        self._target = target
        self._video = target.model.video
        self._gateway = gateway
        self._converter = converter
        self._executor = executor
        self._converting = asyncio.Lock()

    async def send(self, batch: Sequence[PendingFrame]) -> None:
        """Give each frame of a batch its outcome. The batch has just got a slot."""
        taken = time.monotonic()
        late = False
        for frame in batch:
            frame.taken = taken
            late = late or (frame.converted is None and frame.outcome is None)
        try:
            if late:
                await self._convert(batch)
            if frames := self._alive(batch):
                await self._send(frames)
        except InferenceError as error:
            _fail(batch, error.failure)
        except ResultError as error:
            _fail(batch, Failure(VideoReason.MODEL_FAILED, str(error)[:MAX_DETAIL]))
        except Exception:
            log.exception("frames for model %s cannot be sent", self._target.name)
            _fail(batch, Failure(VideoReason.INTERNAL_ERROR, "the frame cannot be sent"))
        finally:
            # A task that is cancelled must leave no frame without an outcome.
            _fail(batch, Failure(VideoReason.STOPPED, "the stream was stopped"))

    async def _convert(self, batch: Sequence[PendingFrame]) -> None:
        late = [frame for frame in batch if frame.converted is None and frame.outcome is None]
        async with self._converting:  # the converter is for one thread at a time
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._executor, self._convert_all, late)

    def _convert_all(self, frames: Sequence[PendingFrame]) -> None:
        now = time.monotonic()
        for frame in frames:
            if self._deadline(frame) > now:
                frame.convert(self._converter, keep_frame=self.keeps_frames)
            else:
                frame.outcome = deadline_passed()

    def _alive(self, batch: Sequence[PendingFrame]) -> Sequence[PendingFrame]:
        """The frames that can still be sent. The others get their outcome."""
        now, alive = time.monotonic(), []
        for frame in batch:
            if frame.outcome is not None:
                continue
            if self._deadline(frame) <= now:
                frame.outcome = deadline_passed()
            else:
                alive.append(frame)
        return alive

    async def _send(self, frames: Sequence[PendingFrame]) -> None:
        converted = [frame.converted for frame in frames if frame.converted is not None]
        declared = self._target.declared
        shape, raw = batch_tensor(declared, converted)
        request = infer_request(self._target.name, declared.name, declared.datatype, shape, raw)
        del raw, converted
        deadline, sent = min(map(self._deadline, frames)), time.monotonic()
        for frame in frames:
            frame.converted, frame.sent, frame.answered = None, sent, sent
        try:
            response = await self._infer(request, deadline)
        finally:
            answered = time.monotonic()
            for frame in frames:
                frame.answered = answered
        count = len(frames) if self._target.has_batch else None
        results = read_inferences(response, count, self._target.model.outputs)
        for frame, inference in zip(frames, results, strict=True):
            frame.outcome = inference

    def _deadline(self, frame: PendingFrame) -> float:
        start = frame.arrived if self._target.deadline_from_arrival else frame.taken
        return start + self._video.deadline

    async def _infer(self, request: bytes, deadline: float) -> ModelInferResponse:
        retries = 0
        while True:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise InferenceError(deadline_passed())
            try:
                return await self._gateway.infer(request, self._target.metadata, remaining)
            except InferenceError as error:
                remaining = deadline - time.monotonic()
                spread = random.random()  # noqa: S311
                delay = retry_delay(error.failure, retries, self._video.retries, remaining, spread)
                if delay is None:
                    raise
            retries += 1
            await asyncio.sleep(delay)


def _fail(frames: Sequence[PendingFrame], failure: Failure) -> None:
    """Fail the frames that have no outcome."""
    for frame in frames:
        if frame.outcome is None:
            frame.outcome = failure
            frame.converted = None
