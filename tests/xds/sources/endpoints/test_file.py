"""Endpoints from a file: what is valid is found, and what is not is named."""

import asyncio
import json
from contextlib import suppress
from pathlib import Path

import pytest

from sluice.config.endpoints import Endpoint, EndpointsFrom
from sluice.config.files import UnusableFileError
from xds.sources.endpoints.file import EndpointFiles, read_endpoints
from xds.sources.endpoints.source import Found, NoEndpoints

FIRST, SECOND = Endpoint(address="10.0.0.1:80"), Endpoint(address="[::1]:80", weight=2, drain=True)
ORIGIN = EndpointsFrom(file="endpoints.yaml")


@pytest.mark.parametrize(
    ("text", "endpoints"),
    [
        ("[]", ()),
        ("- address: 10.0.0.1:80\n", (FIRST,)),
        (json.dumps([FIRST.model_dump(), SECOND.model_dump()]), (FIRST, SECOND)),
    ],
)
def test_a_list_of_endpoints_is_read(
    text: str, endpoints: tuple[Endpoint, ...], tmp_path: Path
) -> None:
    (tmp_path / "endpoints.yaml").write_text(text)
    assert read_endpoints(tmp_path / "endpoints.yaml") == endpoints


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "write a list of endpoints; [] for none"),
        (b"address: 10.0.0.1:80", "write a list of endpoints"),
        (b"\xff", "not UTF-8"),
        (b"- address: [", "line 2: "),
        (b"- addres: 10.0.0.1:80", "0.address is not valid"),
        (b"- address: 10.0.0.1:80\n  weight: 0", "0.weight is not valid"),
        (b"- address: 10.0.0.1:80\n- address: 10.0.0.1:80", "1.address: two endpoints"),
        (b"- address: models.test:80", "0.address: write an IP address"),
        (b"- address: 10.0.0.1:80\n" * 10_001, "write at most 10000 endpoints"),
    ],
)
def test_a_list_that_is_not_valid_is_refused(content: bytes, error: str, tmp_path: Path) -> None:
    file = tmp_path / "endpoints.yaml"
    file.write_bytes(content)
    with pytest.raises(UnusableFileError) as raised:
        read_endpoints(file)
    assert error in str(raised.value)


@pytest.mark.parametrize("in_place", [False, True])
def test_each_change_is_reported_once_and_complete(in_place: bool, tmp_path: Path) -> None:
    file, draft = tmp_path / "endpoints.yaml", tmp_path / "draft"
    reported: asyncio.Queue[Found] = asyncio.Queue()

    def write(text: str) -> None:
        if in_place:
            file.write_text(text)
        else:
            draft.write_text(text)
            draft.replace(file)

    async def next_report() -> Found:
        return await asyncio.wait_for(reported.get(), 10)

    async def change() -> None:
        assert await next_report() == (FIRST,)
        write("[]")
        assert await next_report() == ()
        file.unlink()
        missing = await next_report()
        assert isinstance(missing, NoEndpoints)
        assert "the file cannot be read: No such file" in missing.error
        write("- address: 10.0.0.1:80\n")
        assert await next_report() == (FIRST,)
        assert reported.empty()

    async def run() -> None:
        write("- address: 10.0.0.1:80\n")
        files = EndpointFiles(tmp_path)
        assert files.find(ORIGIN) == (FIRST,)
        files.follow([ORIGIN])
        running = asyncio.create_task(files.run(lambda _, found: reported.put_nowait(found)))
        await change()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    asyncio.run(run())
