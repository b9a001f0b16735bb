"""One gateway in containers for all tests."""

from collections.abc import Iterator

import pytest

from tests.integration.containers.fleet import Fleet, fleet


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet(tmp_path_factory.mktemp("fleet")) as made:
        yield made
