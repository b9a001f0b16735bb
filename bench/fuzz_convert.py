"""Fuzzes every converter: `python -m bench.fuzz_convert --count 1000000`.

A failure names the number of its input; `--first N` starts with that input. Prints the rate, the
numbers of accepted and refused inputs, the slowest input and the growth of memory.
"""

import argparse
import faulthandler
import resource
import time
import warnings

from tests.extproc.convert.fuzzing import Fuzzer

HANG_SECONDS = 30


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _run(first: int, count: int) -> None:
    fuzzer = Fuzzer()
    began = time.monotonic()
    settled = _peak_mib()
    slowest = (0.0, first)
    for number in range(first, first + count):
        done = number - first
        if done % 10_000 == 0:
            faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
            if done == min(count // 10, 50_000) // 10_000 * 10_000:
                settled = _peak_mib()
            if done and done % 100_000 == 0:
                print(f"{done:,} after {time.monotonic() - began:.0f} s", flush=True)
        started = time.perf_counter()
        try:
            fuzzer.check(number)
        except BaseException as error:
            error.add_note(f"input {number}")
            raise
        slowest = max(slowest, (time.perf_counter() - started, number))
    faulthandler.cancel_dump_traceback_later()
    seconds = time.monotonic() - began
    print(f"{count:,} inputs in {seconds:.0f} s ({count / seconds:,.0f} a second)")
    print(f"accepted {fuzzer.tally.accepted:,}, refused {dict(fuzzer.tally.refused)}")
    print(f"reasons {dict(fuzzer.tally.reasons.most_common())}")
    print(f"slowest {slowest[0] * 1000:.1f} ms (input {slowest[1]})")
    print(
        f"peak memory {_peak_mib():.0f} MiB, {_peak_mib() - settled:.1f} MiB more than at the start"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    # Pillow warns about damaged metadata and ignores them.
    warnings.simplefilter("ignore")
    _run(options.first, options.count)


if __name__ == "__main__":
    main()
