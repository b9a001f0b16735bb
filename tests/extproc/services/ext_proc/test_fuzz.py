"""A stream answers or refuses every part of a request, for any input."""

from tests.extproc.services.ext_proc.fuzzing import Fuzzer


def test_mutated_streams_are_answered_or_refused() -> None:
    fuzzer = Fuzzer()
    for number in range(3_000):
        fuzzer.check(number)
    # Requests are admitted and refused, and bodies are converted in both directions.
    assert fuzzer.kinds["request_body"] > 500
    assert fuzzer.kinds["response_body"] > 100
    assert fuzzer.kinds["immediate_response"] > 500
