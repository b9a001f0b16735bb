"""Requests of many users to a gateway, while a test does something else."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

from tests.integration.gateway import Gateway, bearer

USERS = [bearer(str(number)) for number in range(20)]


@contextmanager
def traffic(gateway: Gateway) -> Iterator[None]:
    """Requests of many users to all models in the block."""
    stop = threading.Event()
    paths = [f"/v2/models/{model}/infer" for model in gateway.config["models"]]

    def send() -> None:
        with gateway.client() as client:
            while not stop.is_set():
                for user, path in product(USERS, paths):
                    client.post(path, json={}, headers=user)
                stop.wait(0.5)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
