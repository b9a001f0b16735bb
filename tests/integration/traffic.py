"""Requests of many users to a gateway, while a test does something else."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product

from tests.integration.gateway import Gateway, bearer

USERS = [bearer(str(number)) for number in range(20)]


@contextmanager
def traffic(gateway: Gateway) -> Iterator[None]:
    """Requests of many users to all models in the block."""
    paths = [f"/v2/models/{model}/infer" for model in gateway.config["models"]]

    def send(stop: threading.Event) -> None:
        with gateway.client() as client:
            while not stop.is_set():
                for user, path in product(USERS, paths):
                    client.post(path, json={}, headers=user)
                stop.wait(0.5)

    with meanwhile(send):
        yield


@contextmanager
def meanwhile(send: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run a function in a thread in the block. It returns soon after the event is set."""
    stop = threading.Event()
    thread = threading.Thread(target=send, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
