"""A callout worker reduced to its limiter: floods one key for a while, prints what was admitted.

Arguments: backend config as JSON, broker socket or "", rate, burst, seconds, requests per second.
"""

import asyncio
import inspect
import sys
from pathlib import Path

from extproc.limits import Limiter, RequestView, open_budgets, steady_clock
from sluice.config.limit_backend import LimitBackend
from sluice.config.limits import LimitRule


async def flood(limiter: Limiter, seconds: float, per_second: int) -> tuple[int, int]:
    clock = steady_clock()
    view = RequestView(subject="noisy")
    started = clock()
    asked = admitted = 0
    while (elapsed := clock() - started) < seconds:
        while asked < elapsed * per_second:
            asked += 1
            verdict = limiter.check(clock(), view)
            if inspect.isawaitable(verdict):
                verdict = await verdict
            admitted += verdict.admitted
        await asyncio.sleep(0.001)
    return asked, admitted


async def main() -> None:
    backend, broker, rate, burst, seconds, per_second = sys.argv[1:]
    rule = LimitRule(name="flood", key=("subject",), rate=int(rate), burst=int(burst))
    settings = LimitBackend.model_validate_json(backend)
    path = Path(broker) if broker else None
    async with open_budgets(settings, steady_clock(), path) as found:
        limiter = Limiter([rule], found)
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        asked, admitted = await flood(limiter, float(seconds), int(per_second))
    print(asked, admitted, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
