"""Whatever bytes come, a converter answers with a body or a refusal."""

import warnings

import pytest

from extproc.convert import ConversionError
from tests.extproc.convert.fuzzing import Fuzzer


@pytest.fixture(scope="module")
def fuzzer() -> Fuzzer:
    return Fuzzer()


def test_every_payload_converts_as_long_as_it_is_whole(fuzzer: Fuzzer) -> None:
    refused = []
    for sample in fuzzer.corpus:
        try:
            sample.convert(sample.body, sample.headers)
        except ConversionError as error:
            refused.append(error.reason)
    # Bytes that are no text, meant for a server that takes JSON only.
    assert refused == ["not_text"]


def test_mutated_payloads_are_converted_or_refused_and_nothing_else(fuzzer: Fuzzer) -> None:
    with warnings.catch_warnings():
        # Pillow warns of damaged metadata that it then ignores.
        warnings.simplefilter("ignore")
        for number in range(20_000):
            fuzzer.check(number)
    assert fuzzer.tally.accepted > 1_000
    assert set(fuzzer.tally.refused) == {400, 413, 415, 422, 502}
