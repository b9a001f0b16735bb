"""What a control plane counts since a step is in force, with a clock that the test sets."""

from xds.canary.figures import Copies
from xds.canary.meter import Meter
from xds.envoys.observations import Observations
from xds.envoys.reporters import Comparison, Counts, Reporter
from xds.envoys.series import MAX_WINDOW

START = 1000.0


class Plane:
    """The meter of one step, and one worker that reports every two seconds."""

    def __init__(self) -> None:
        self.now = START
        self.observations = Observations()
        self.observations.configure({"m/v1", "m/v2"})
        self.worker: Reporter = self.observations.join("worker", "a", self.now)
        self.meter = Meter(self.observations, "m", "v2", "v1")

    def report(self, counts: Counts = Counts(0, 0)) -> None:  # noqa: B008
        """The worker reports; the meter reads the reports, as every second."""
        self.now += 2
        self.worker.report(self.now, {"m/v2": counts, "m/v1": Counts(10, 0)})
        self.meter.read(self.now)

    @property
    def copies(self) -> Copies:
        return self.meter.read(self.now).copies


def compared(agreed: int, difference: float, failed: int = 0) -> Counts:
    comparison = Comparison(10, agreed, failed, dropped=5, max_difference=difference)
    return Counts(0, 0, comparison=comparison)


def test_only_what_is_reported_after_the_beginning_counts() -> None:
    plane = Plane()
    plane.report(Counts(100, 50, comparison=Comparison(100, 0)))
    plane.meter = Meter(plane.observations, "m", "v2", "v1")
    plane.report(Counts(7, 1))
    plane.report(Counts(7, 1))
    part = plane.meter.read(plane.now)
    assert (part.canary.requests, part.canary.errors, part.stable.requests) == (7, 1, 10)
    assert (part.seconds, part.source, part.gap) == (2, "worker", "")


def test_copies_without_an_answer_do_not_agree_and_dropped_ones_say_nothing() -> None:
    plane = Plane()
    plane.report()
    plane.report(compared(9, 0.25, failed=2))
    plane.report(compared(10, 0.125))
    assert plane.copies == Copies(22, 19, 0.25)


def test_a_difference_counts_until_the_end_of_the_step() -> None:
    plane = Plane()
    plane.report()
    plane.report(compared(10, 0.5))
    while plane.now < START + 1.5 * MAX_WINDOW:
        plane.report(compared(10, 0.125))
    assert plane.copies.max_difference == 0.5


def test_a_gap_in_the_reports_begins_the_counts_again() -> None:
    plane = Plane()
    plane.report()
    plane.report(compared(9, 0.5))
    plane.now += 60
    silent = plane.meter.read(plane.now)
    assert silent.gap == "reports are missing from a"
    plane.report(compared(9, 0.125))
    plane.report(compared(9, 0.125))
    assert (plane.copies, plane.meter.read(plane.now).seconds) == (Copies(10, 9, 0.125), 2)
