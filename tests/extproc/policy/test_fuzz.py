"""A worker compiles or rejects every policy."""

from tests.extproc.policy.fuzzing import Fuzzer


def test_policies_with_extreme_values_are_compiled_or_rejected() -> None:
    fuzzer = Fuzzer()
    for number in range(2_000):
        fuzzer.check(number)
    assert fuzzer.compiled > 200
    assert fuzzer.rejected > 200
