"""Compares the answers of Envoy with those of `decide()`, over random policies and requests.

Run it with `python -m bench.equality --requests 1000000`. It exits with 1 if an answer differs, and
prints the request and its config. `--first N` starts with config N, to repeat a difference.

With `--mutations`, it leaves out each matcher of the native routes of one config in turn instead,
and exits with 1 if the comparison does not notice one of them, or if it notices one that is said to
be equivalent.
"""

import argparse
import itertools
import logging
import resource
import sys
import time

import uvloop

from tests.integration.equality.compare import Tally, compare_world
from tests.integration.equality.every_rule import every_rule
from tests.integration.equality.gateway import equality_gateway
from tests.integration.equality.mutations.check import MutationCheck, Report
from tests.integration.equality.mutations.equivalents import EQUIVALENTS

REQUESTS_PER_CONFIG = 20_000
MAX_SHOWN = 20
"""Differences that are printed in full."""

SHOWN_AFTER = 300
"""Mutations after which the outcomes so far are printed."""


def main() -> int:
    """Compare. Returns 1 if an answer differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--seed", default="equality", help="determines the configs and requests")
    parser.add_argument("--first", type=int, default=0, help="number of the first config")
    parser.add_argument("--mutations", action="store_true", help="leave out each matcher in turn")
    parser.add_argument("--limit", type=int, default=3_000, help="requests for each mutation")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    if options.mutations:
        return _show(uvloop.run(_mutate(options.limit)))
    tally = uvloop.run(_compare(options.requests, options.seed, options.first))
    for difference in tally.differences[:MAX_SHOWN]:
        print(difference, end="\n\n")
    if len(tally.differences) > MAX_SHOWN:
        print(f"and {len(tally.differences) - MAX_SHOWN} more")
    print(
        f"{tally.requests:,} requests: {tally.native:,} admitted by Envoy alone "
        f"({tally.native_share:.1%}), {tally.callout:,} decided by the callout, {tally.by_envoy:,} "
        f"refused by Envoy's HTTP; {tally.edited:,} were one edit away from an admitted one"
    )
    print(f"{len(tally.differences)} apart")
    return 1 if tally.differences else 0


async def _mutate(limit: int) -> Report:
    async with equality_gateway() as gateway:
        check = MutationCheck(gateway, every_rule(gateway.model_port), limit)
        found = await check.start()
        started = time.monotonic()
        for at in range(0, len(found), SHOWN_AFTER):
            await check.check(found[at : at + SHOWN_AFTER])
            print(f"{time.monotonic() - started:.0f} s: {check.report}", flush=True)
    return check.report


def _show(report: Report) -> int:
    """Print what is wrong. Returns 1 if something is."""
    unexpected = report.unexpected()
    for difference in report.differences[:MAX_SHOWN]:
        print(f"without a mutation: {difference}", end="\n\n")
    for equivalent in EQUIVALENTS:
        print(f"equivalent: {' '.join(equivalent.parts)}: {equivalent.reason}")
    for name in unexpected:
        print(f"unexpected: {name}")
    print(report)
    return 1 if unexpected or report.differences else 0


async def _compare(count: int, seed: str, first: int) -> Tally:
    total = Tally()
    async with equality_gateway() as gateway:
        started = time.monotonic()
        for number in itertools.count(first):
            if total.requests >= count:
                break
            size = min(REQUESTS_PER_CONFIG, count - total.requests)
            tally = await compare_world(gateway, f"{seed}-{number}", size)
            total.add(tally)
            seconds = time.monotonic() - started
            print(
                f"config {number}: {tally.native_share:.0%} native, {len(tally.differences)} "
                f"apart; {total.requests:,} requests, {total.requests / seconds:,.0f}/s",
                flush=True,
            )
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"CPU for one request: {_micros(own, total)} µs here (requests, `decide()`, comparison), "
        f"{_micros(children, total)} µs in Envoy, the callout and the model server"
    )
    return total


def _micros(usage: resource.struct_rusage, tally: Tally) -> int:
    return round((usage.ru_utime + usage.ru_stime) / tally.requests * 1e6)


if __name__ == "__main__":
    sys.exit(main())
