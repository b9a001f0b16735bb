"""A token is accepted or refused, for any input."""

from tests.extproc.auth.fuzzing import Fuzzer


def test_extreme_tokens_are_accepted_or_refused() -> None:
    fuzzer = Fuzzer()
    for number in range(5_000):
        fuzzer.check(number)
    assert fuzzer.accepted > 500
    assert fuzzer.refused > 500
