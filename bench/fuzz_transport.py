"""Fuzz the callout transport for as long as it is told: `python -m bench.fuzz_transport 1000000`.

Inputs are numbered, so a failure names the one to run again (`--first N`). Prints the rate, what
the inputs reached, and how much memory the run has grown by.
"""

import argparse
import asyncio
import faulthandler
import gc
import resource
import time

from tests.extproc.transport.fuzzing import Target, input_of

HANG_SECONDS = 30


def _rss_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def _run(first: int, count: int) -> None:
    target = Target(asyncio.get_running_loop())
    began = time.monotonic()
    settled = _rss_mib()
    for number, seed in enumerate(range(first, first + count)):
        if number % 10_000 == 0:
            faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
            if number == min(count // 10, 50_000) // 10_000 * 10_000:
                settled = _rss_mib()
        try:
            target.check(input_of(seed))
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
    faulthandler.cancel_dump_traceback_later()
    gc.collect()
    seconds = time.monotonic() - began
    print(f"{count:,} inputs in {seconds:.0f} s ({count / seconds:,.0f} a second)")
    print(f"peak memory {_rss_mib():.0f} MiB, {_rss_mib() - settled:.1f} MiB above the first tenth")
    print(target.state.counters)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=1_000_000)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    asyncio.run(_run(options.first, options.count))


if __name__ == "__main__":
    main()
