"""Feeds random input to the callout transport: `python -m bench.fuzz_transport 1000000`.

A failure names the seed of its input; `--first SEED` starts with it. Prints the rate, the counters
of the server, and the growth of memory.
"""

import argparse
import asyncio
import faulthandler
import gc
import resource
import time

from tests.extproc.transport.fuzzing import Target, input_of

HANG_SECONDS = 30
"""For 10,000 inputs. When they take longer, the traceback is printed and the run ends."""


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def _run(first: int, count: int) -> None:
    target = Target(asyncio.get_running_loop())
    began = time.monotonic()
    warm = _peak_mib()
    for number, seed in enumerate(range(first, first + count)):
        if number % 10_000 == 0:
            faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
            if number == min(count // 10, 50_000) // 10_000 * 10_000:
                warm = _peak_mib()
        try:
            target.check(input_of(seed))
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
    faulthandler.cancel_dump_traceback_later()
    gc.collect()
    seconds = time.monotonic() - began
    print(f"{count:,} inputs in {seconds:.0f} s ({count / seconds:,.0f} a second)")
    growth = _peak_mib() - warm
    print(f"peak memory {_peak_mib():.0f} MiB, {growth:.1f} MiB more than after the first tenth")
    print(target.state.counters)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=1_000_000, help="number of inputs")
    parser.add_argument("--first", type=int, default=0, help="seed of the first input")
    options = parser.parse_args()
    asyncio.run(_run(options.first, options.count))


if __name__ == "__main__":
    main()
