"""Delayed work shares the time of an iteration of the event loop, in order of arrival."""

import asyncio

from extproc.transport.aio.turns import TURN_SECONDS, Turns


def test_work_that_waits_goes_on_in_order_when_there_is_time() -> None:
    async def test() -> None:
        now = 0.0
        turns, done = Turns(asyncio.get_running_loop(), clock=lambda: now), []

        def work(name: str) -> None:
            nonlocal now
            now += TURN_SECONDS / 2
            done.append(name)

        assert not turns.is_over()
        now += TURN_SECONDS
        assert turns.is_over()
        for name in "abcde":
            turns.wait(lambda name=name: work(name))  # type: ignore[misc]
        seen = []
        while len(done) < 5:
            await asyncio.sleep(0)
            seen.append("".join(done))
        # Only whole pieces of work run, so the first piece of a turn always does.
        assert seen == ["ab", "abcd", "abcde"]
        await asyncio.sleep(0)
        assert not turns.is_over()

    asyncio.run(test())
