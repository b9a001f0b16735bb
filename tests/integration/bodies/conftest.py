"""Model servers of all kinds, and one gateway in front of them, for the tests of bodies."""

from collections.abc import Iterator

import pytest

from tests.integration.bodies.servers import DEFAULT, MAX_RESPONSE, GrpcServer, Wsgi
from tests.integration.gateway import Gateway, base_config, running
from tests.integration.raw_server import RawServer, raw_server


@pytest.fixture(scope="package")
def wsgi() -> Iterator[Wsgi]:
    server = Wsgi()
    server.thread.start()
    yield server
    server.server.shutdown()
    server.thread.join(10)
    server.server.server_close()


@pytest.fixture(scope="package")
def server() -> Iterator[RawServer]:
    with raw_server() as running_server:
        yield running_server


@pytest.fixture(scope="package")
def grpc_server() -> Iterator[GrpcServer]:
    server = GrpcServer()
    server.server.start()
    yield server
    server.server.stop(None)


@pytest.fixture(scope="package")
def gateway(server: RawServer, wsgi: Wsgi, grpc_server: GrpcServer) -> Iterator[Gateway]:
    """Models of `server`: `labelled` has labels, `unlabelled` has none, `plain` declares nothing.

    `retried` is `labelled` with retries. `wsgi` and `tensors` are `labelled` on the other servers,
    `large` is `tensors` with the default limit of responses, and `picture` with an image.
    """
    config = base_config()
    config["requests"]["max_response"] = MAX_RESPONSE
    common = {
        "access": {"public": True},
        "methods": ["GET", "HEAD", "POST"],
        "extra_paths": ["*"],
        "versions": {"v1": {"endpoints": [{"address": server.address}]}},
    }
    tensors = {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}],
        "outputs": [{"name": "y", "labels": ["cat", "dog"]}],
    }
    config["models"] = {
        "labelled": {**common, **tensors},
        "unlabelled": {**common, "inputs": tensors["inputs"]},
        "plain": {**common, "content_types": ["*/*"]},
        "wsgi": {
            **common,
            **tensors,
            "versions": {"v1": {"endpoints": [{"address": wsgi.address}]}},
        },
    }
    config["models"]["tensors"] = {
        **config["models"]["labelled"],
        "methods": ["POST"],
        "versions": {"v1": {"protocol": "grpc", "endpoints": [{"address": grpc_server.address}]}},
    }
    config["models"]["large"] = {**config["models"]["tensors"], "max_response": DEFAULT}
    config["models"]["retried"] = {**config["models"]["labelled"], "retries": {"retry_on": ["5xx"]}}
    shape = {"width": 1000, "height": 1000, "layout": "NCHW"}
    config["models"]["picture"] = {
        **config["models"]["tensors"],
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3, 1000, 1000], "image": shape}],
    }
    config["callout"]["message_timeout"] = 20
    with running(config, demo=False) as started:
        yield started
