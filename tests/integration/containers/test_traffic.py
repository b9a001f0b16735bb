"""A gateway in containers answers as one on a machine does."""

import httpx
import pytest

from tests import plain_http
from tests.integration.containers.fleet import ROOT, Fleet
from tests.integration.gateway import eventually

pytestmark = pytest.mark.docker


def version(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.json()["model_version"])


def test_text_is_classified(gateway: Fleet) -> None:
    answer = gateway.infer()
    assert version(answer) == "v1"
    assert answer.json()["outputs"][0]["data"] == ["positive"]


def test_a_picture_is_converted_for_a_model_that_takes_tensors_over_grpc(gateway: Fleet) -> None:
    answer = plain_http.post(
        f"{gateway.url}/v2/models/digits/infer",
        content=(ROOT / "examples" / "digit-7.png").read_bytes(),
        headers={**gateway.headers, "content-type": "image/png"},
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["outputs"][0]["data"] == [7]


def test_a_request_without_a_token_is_refused(gateway: Fleet) -> None:
    answer = gateway.infer(authorization="")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_header_chooses_the_version(gateway: Fleet) -> None:
    assert version(gateway.infer(x_model_version="v2")) == "v2"


def test_a_canary_moves_at_run_time(gateway: Fleet) -> None:
    canaries = [{"version": "v2", "percent": 100}]
    gateway.edit(lambda config: config["models"]["sentiment"].update(canaries=canaries))
    eventually(lambda: version(gateway.infer()) == "v2")
    canaries[0]["percent"] = 0
    gateway.edit(lambda config: config["models"]["sentiment"].update(canaries=canaries))
    eventually(lambda: version(gateway.infer()) == "v1")
