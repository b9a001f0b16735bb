"""A config is refused with an error, or compiles into Envoy's resources and a policy."""

from tests.sluice.config.fuzzing import Fuzzer


def test_configs_with_extreme_values_are_refused_or_compile() -> None:
    fuzzer = Fuzzer()
    for number in range(80):
        fuzzer.check(number)
    assert fuzzer.tally.accepted > 60
    assert fuzzer.tally.refused > 60
    assert len(fuzzer.tally.keys) > 120
