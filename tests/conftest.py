"""Settings of all tests.

Hypothesis: an example does not fail because it is slow, on a busy machine.

SIGINT: a shell lets its background jobs ignore it. Processes that tests start would ignore it too.
"""

import signal

from hypothesis import HealthCheck, settings

settings.register_profile(
    "busy", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("busy")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
