"""Events at an MQTT broker: a real one where it is installed, and one that fails as a test says."""

import asyncio
import json
import shutil
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.integration.gateway import free_ports
from tests.redis_tls import make_files, tls_in_front_of
from tests.video.sinks.events import delivered, event, failing, running, until
from tests.video.sinks.mqtt_broker import Broker, mqtt_broker
from video.sinks import mqtt
from video.sinks.mqtt_session import MqttSession


def config(port: int, **more: Any) -> dict[str, Any]:
    return {"mqtt": {"address": f"localhost:{port}", **more}}


def frames(broker: Broker) -> list[int]:
    return [json.loads(payload)["frame"] for _, payload in broker.messages]


def test_events_are_published_in_order() -> None:
    async def run(broker: Broker) -> None:
        async with running(config(broker.port)) as sink:
            for number in range(250):
                sink.put(event(number), None)

    with mqtt_broker() as broker:
        asyncio.run(run(broker))
    assert frames(broker) == list(range(250))
    assert {topic for topic, _ in broker.messages} == {"sluice/video/door"}
    assert len(broker.clients) == 1


def test_events_that_were_not_acknowledged_are_published_again() -> None:
    async def run(broker: Broker) -> None:
        async with running(config(broker.port)) as sink:
            for number in range(10):
                sink.put(event(number), None)
            await delivered(sink, 10)

    with mqtt_broker() as broker:
        broker.acknowledge = 4
        asyncio.run(run(broker))
    assert set(frames(broker)) == set(range(10))
    assert frames(broker)[-10:] == list(range(10))
    assert len(broker.clients) == 2


def test_events_wait_for_a_broker_that_is_down() -> None:
    (port,) = free_ports(1)

    async def run() -> list[int]:
        async with running(config(port)) as sink:
            sink.put(event(0), None)
            assert await failing(sink) == "localhost: Connection refused"
            sink.put(event(1), None)
            with mqtt_broker(port) as broker:
                await delivered(sink, 2)
                found = frames(broker)
            # It goes away, and comes back.
            sink.put(event(2), None)
            assert await failing(sink)
            with mqtt_broker(port) as broker:
                await delivered(sink, 3)
                return found + frames(broker)

    assert asyncio.run(run()) == [0, 1, 2]


def test_a_broker_that_says_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "_TIMEOUT", 0.3)

    async def run(broker: Broker) -> str:
        async with running(config(broker.port)) as sink:
            sink.put(event(0), None)
            error = await failing(sink)
            broker.silent = False
            await delivered(sink, 1)
            return error

    with mqtt_broker() as broker:
        broker.silent = True
        assert asyncio.run(run(broker)) == "localhost: no answer within 0.3 s"


def test_brokers_that_hold_up_the_handshake_take_no_thread_of_other_sinks() -> None:
    async def run(port: int) -> None:
        tls = ssl.create_default_context()
        sessions = [MqttSession(f"c{i}", None, None, tls, 5.0) for i in range(40)]
        connecting = [asyncio.create_task(each.connect("127.0.0.1", port)) for each in sessions]
        await asyncio.sleep(0)
        async with asyncio.timeout(2):
            await asyncio.to_thread(lambda: None)
        for each in connecting:
            each.cancel()
        for session in sessions:
            await session.close()

    # Nobody accepts the connections, so that they are open and silent.
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        asyncio.run(run(server.getsockname()[1]))


def test_a_password_is_sent_and_never_shown() -> None:
    async def run(broker: Broker, password: bytes) -> str:
        options = config(broker.port, username="camera", password={"env": "UNUSED"})
        async with running(options, {"sinks.0.mqtt.password": password}, seconds=0) as sink:
            sink.put(event(0), None)
            await until(lambda: sink.status().error or sink.status().delivered)
            return sink.status().error

    with mqtt_broker() as broker:
        broker.password = b"hunter2"
        assert asyncio.run(run(broker, b"hunter2")) == ""
        error = asyncio.run(run(broker, b"wrong-password"))
    assert error.startswith("localhost: refused: ")
    assert "wrong-password" not in error


def test_the_certificate_of_the_broker_is_checked(tmp_path: Path) -> None:
    make_files(tmp_path)

    async def run(port: int, **more: str) -> str:
        async with running(config(port, tls=True, **more), seconds=0) as sink:
            sink.put(event(0), None)
            await until(lambda: sink.status().error or sink.status().delivered)
            return sink.status().error

    with (
        mqtt_broker() as broker,
        tls_in_front_of(broker.port, tmp_path, optional=True) as port,
    ):
        assert asyncio.run(run(port, ca=str(tmp_path / "ca.crt"))) == ""
        assert "the certificate is not valid" in asyncio.run(run(port))
    assert frames(broker) == [0]


@pytest.mark.skipif(not shutil.which("mosquitto"), reason="needs mosquitto")
def test_a_real_broker_gives_events_to_its_subscribers(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    settings = tmp_path / "mosquitto.conf"
    settings.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    found: list[int] = []

    async def run() -> None:
        subscribed = asyncio.Event()
        loop = asyncio.get_running_loop()
        client = paho.Client(CallbackAPIVersion.VERSION2)
        client.on_message = lambda *args: found.append(json.loads(args[2].payload)["frame"])
        client.on_subscribe = lambda *_: loop.call_soon_threadsafe(subscribed.set)
        client.connect("127.0.0.1", port)
        client.loop_start()
        client.subscribe("cameras/door", qos=1)
        await asyncio.wait_for(subscribed.wait(), 20)
        async with running(config(port, topic="cameras/{stream}")) as sink:
            for number in range(300):
                sink.put(event(number), None)
        await until(lambda: len(found) == 300)
        client.disconnect()
        client.loop_stop()

    command = ["mosquitto", "-c", str(settings)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as broker:
        assert broker.stderr is not None
        try:
            next(line for line in broker.stderr if b" running" in line)
            asyncio.run(run())
        finally:
            broker.terminate()
    assert found == list(range(300))
