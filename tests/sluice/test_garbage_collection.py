"""The garbage collector does not run while many objects are created."""

import gc
from collections.abc import Iterator

import pytest

from sluice.config.load import loads
from sluice.garbage_collection import without_collection


@pytest.fixture
def collections() -> Iterator[list[str]]:
    """The starts of the collector."""
    starts: list[str] = []

    def record(phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            starts.append(phase)

    gc.callbacks.append(record)
    yield starts
    gc.callbacks.remove(record)


def test_a_config_is_read_without_collection(collections: list[str]) -> None:
    model = "{versions: {v1: {endpoints: [{address: 127.0.0.1:1}]}}}"
    loads("models:\n" + "".join(f"  m{number}: {model}\n" for number in range(500)))
    assert collections == []


def test_the_collector_is_on_again_also_after_an_error() -> None:
    assert without_collection(lambda _: gc.isenabled(), None) is False
    with pytest.raises(ZeroDivisionError):
        without_collection(lambda number: 1 / number, 0)
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        without_collection(bytes, b"")
        assert not gc.isenabled()
    finally:
        gc.enable()
