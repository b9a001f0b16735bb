"""One gateway in containers for all tests, whose logs are in the report of a failed test."""

from collections.abc import Iterator

import pytest

from tests.integration.containers.fleet import Fleet, fleet


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet(tmp_path_factory.mktemp("fleet")) as made:
        yield made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Function) -> Iterator[None]:
    """Add the logs of the containers to the report of a failed test."""
    report = yield
    for name in ("gateway", "project"):
        if report.failed and name in item.funcargs:
            report.sections.append(("logs of the containers", item.funcargs[name].logs()))
    return report
