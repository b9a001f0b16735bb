"""A worker process reduced to its limiter, which takes tokens of one budget on command.

Arguments: the backend as JSON, the broker's socket or "", and the burst of a limit that is refilled
with one token a day. The command `flood` sends requests until one is refused; `flood N` until N are
admitted, and some more. Both report how many were admitted. The process ends with its input.
"""

import asyncio
import sys
from pathlib import Path

from extproc.limits import Limiter, LimitVerdict, RequestView, open_budgets, steady_clock
from sluice.config.limit_backend import LimitBackend
from sluice.config.limits import LimitRule

VIEW = RequestView(subject="noisy")
CLOCK = steady_clock()
EXTRA = 50
"""Requests after those wanted. All should be refused."""


async def admits(limiter: Limiter) -> bool:
    verdict = limiter.check(CLOCK(), VIEW)
    return (verdict if isinstance(verdict, LimitVerdict) else await verdict).admitted


async def flood(limiter: Limiter, wanted: int | None) -> int:
    admitted = 0
    while wanted is None or admitted < wanted:
        if await admits(limiter):
            admitted += 1
        elif wanted is None:
            return admitted
        # The limiter's own tasks need a turn, too.
        await asyncio.sleep(0)
    return admitted + sum([await admits(limiter) for _ in range(EXTRA)])


async def main() -> None:
    backend, broker, burst = sys.argv[1:]
    rule = LimitRule(name="flood", key=("subject",), rate=1, burst=int(burst), per="day")
    settings = LimitBackend.model_validate_json(backend)
    path = Path(broker) if broker else None
    loop = asyncio.get_running_loop()
    async with open_budgets(settings, CLOCK, path) as budgets:
        limiter = Limiter([rule], budgets)
        print("ready", flush=True)
        while command := await loop.run_in_executor(None, sys.stdin.readline):
            _, _, wanted = command.strip().partition(" ")
            print(await flood(limiter, int(wanted) if wanted else None), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
