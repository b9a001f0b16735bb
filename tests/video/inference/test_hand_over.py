"""Frames pass from the source thread to the event loop: each once, in order, and few at a time."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.contract.video import DropReason
from tests.video.memory_source import jpeg_frame
from video.inference.failure import deadline_passed
from video.inference.hand_over import HandOver, Overload
from video.inference.order import FrameOrder
from video.inference.pending import PendingFrame


def pending(number: int) -> PendingFrame:
    return PendingFrame.of(jpeg_frame(number))


def hand_over(overload: Overload = "drop", max_batch: int = 1) -> HandOver:
    return HandOver(lambda: None, max_batch, overload)


def numbers(frames: list[PendingFrame]) -> list[int]:
    return [frame.number for frame in frames]


def test_the_newest_frames_stay() -> None:
    waiting = hand_over(max_batch=2)
    for number in range(5):
        waiting.offer(pending(number))
    assert numbers(waiting.take(9)) == [3, 4]
    assert waiting.drops[DropReason.OVERLOAD] == 3


def test_one_more_batch_may_wait_than_slots_are_free() -> None:
    waiting = hand_over()
    waiting.set_free(3, held_up=False)
    for number in range(6):
        waiting.offer(pending(number))
    assert numbers(waiting.take(9)) == [2, 3, 4, 5]


def test_a_drop_while_an_output_is_full_has_its_own_reason() -> None:
    waiting = hand_over()
    waiting.set_free(0, held_up=True)
    for number in range(3):
        waiting.offer(pending(number))
    assert waiting.drops[DropReason.SINK] == 2


def test_frames_are_converted_at_once_only_if_they_get_a_slot() -> None:
    waiting = hand_over()
    assert not waiting.converts_now()
    waiting.set_free(1, held_up=False)
    assert waiting.converts_now()
    waiting.offer(pending(0))
    assert not waiting.converts_now()
    assert hand_over("wait").converts_now()


def test_the_event_loop_is_woken_only_for_a_free_slot() -> None:
    woken: list[int] = []
    waiting = HandOver(lambda: woken.append(1), 1, "drop")
    waiting.offer(pending(0))
    assert woken == []
    waiting.set_free(1, held_up=False)
    waiting.offer(pending(1))
    assert woken == [1]


def test_all_frames_are_dropped_after_the_end() -> None:
    waiting = hand_over()
    waiting.offer(pending(0))
    assert waiting.close() == 1
    waiting.offer(pending(1))
    assert waiting.take(9) == []
    assert waiting.frames == 2
    assert waiting.drops[DropReason.END] == 1


def test_a_source_thread_that_waits_goes_on_at_the_end() -> None:
    waiting = hand_over("wait")

    def offer() -> None:
        for number in range(3):
            waiting.offer(pending(number))

    thread = threading.Thread(target=offer)
    thread.start()
    while waiting.frames < 2:
        thread.join(0.001)
    assert waiting.close() == 1
    thread.join(10)
    assert not thread.is_alive()
    assert waiting.drops[DropReason.END] == 2


@pytest.mark.parametrize("overload", ["drop", "wait"])
def test_each_frame_is_taken_or_dropped_once_and_in_order(overload: Overload) -> None:
    count = 1000
    waiting = hand_over(overload, max_batch=2)
    taken: list[int] = []

    def offer() -> None:
        for number in range(count):
            waiting.offer(pending(number))

    thread = threading.Thread(target=offer)
    thread.start()
    free = 0
    while thread.is_alive() or waiting.waiting():
        free = (free + 1) % 4
        waiting.set_free(free, held_up=False)
        taken += numbers(waiting.take(2))
        thread.join(0.0001)  # the source thread goes on
    assert taken == sorted(set(taken))
    assert len(taken) + waiting.drops[DropReason.OVERLOAD] == count == waiting.frames
    if overload == "wait":
        assert taken == list(range(count))


@given(st.permutations(range(8)), st.integers(1, 8))
def test_outcomes_come_in_the_order_of_frames(ends: list[int], batch: int) -> None:
    order, frames = FrameOrder(ordered=True), [pending(number) for number in range(8)]
    for frame in frames:
        order.add(frame)
    delivered: list[int] = []
    for start in range(0, 8, batch):
        ended = [frames[number] for number in ends[start : start + batch]]
        for frame in ended:
            frame.outcome = deadline_passed()
        delivered += numbers(list(order.finish(ended)))
        assert order.held == min(start + batch, 8) - len(delivered)
    assert delivered == list(range(8))
