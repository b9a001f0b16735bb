"""A converter returns a body or refuses, for any input."""

import warnings

import pytest

from extproc.convert import ConversionError
from tests.extproc.convert.fuzzing import Fuzzer


@pytest.fixture(scope="module")
def fuzzer() -> Fuzzer:
    return Fuzzer()


def test_every_unmutated_sample_converts(fuzzer: Fuzzer) -> None:
    refused = []
    for sample in fuzzer.corpus:
        try:
            sample.convert(sample.body, sample.headers)
        except ConversionError as error:
            refused.append(error.reason)
    # BYTES that are not UTF-8, for a server that accepts only JSON.
    assert refused == ["not_text"]


def test_mutated_samples_are_converted_or_refused(fuzzer: Fuzzer) -> None:
    with warnings.catch_warnings():
        # Pillow warns about damaged metadata and ignores them.
        warnings.simplefilter("ignore")
        for number in range(20_000):
            fuzzer.check(number)
    assert fuzzer.tally.accepted > 1_000
    assert set(fuzzer.tally.refused) == {400, 413, 415, 422, 502}
