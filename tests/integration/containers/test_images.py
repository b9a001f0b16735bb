"""What the images have, and what they do not have."""

import pytest

from tests.integration.containers.engine import ENVOY, EXAMPLES, SLUICE, VIDEO, connect

pytestmark = pytest.mark.docker

TOOLS = "pip pip3 gcc cc make curl wget ssh"


@pytest.mark.parametrize("image", [SLUICE, ENVOY, VIDEO, EXAMPLES])
def test_an_image_has_no_compiler_and_no_pip(image: str) -> None:
    script = f"for tool in {TOOLS}; do command -v $tool; done; python -c 'import pip' 2>&1"
    found = connect().containers.run(
        image, ["-c", script + "; true"], entrypoint="sh", remove=True, network_mode="none"
    )
    assert found.decode().strip().splitlines()[-1] == "ModuleNotFoundError: No module named 'pip'"


@pytest.mark.parametrize("image", [SLUICE, ENVOY, VIDEO, EXAMPLES])
def test_an_image_runs_as_a_user_without_rights(image: str) -> None:
    config = connect().images.get(image).attrs["Config"]
    assert config["User"] == "65532:65532"


PARTS = ("control-plane", "callout", "envoy", "video", "prometheus")
"""Those for which the service `setup` of docker-compose.yml makes certificates."""


def test_the_user_of_an_image_can_change_no_file_of_it() -> None:
    script = "find / -xdev -writable ! -type l ! -path '/proc/*' ! -path '/dev/*'; true"
    found = connect().containers.run(
        SLUICE, ["-c", script], entrypoint="sh", remove=True, network_mode="none", stderr=False
    )
    assert set(found.decode().split()) <= {
        "/tmp",
        "/var/tmp",
        "/run/lock",
        "/run/sluice",
        "/run/sluice/identity",
        *(f"/run/sluice/parts/{part}" for part in PARTS),
        "/etc/sluice",
        "/var/lib/sluice",
    }


@pytest.mark.parametrize(("image", "decoders"), [(SLUICE, ""), (ENVOY, ""), (VIDEO, "av")])
def test_only_the_image_of_the_video_service_has_decoders(image: str, decoders: str) -> None:
    script = "python -c 'import av; print(av.__name__)' 2>/dev/null; true"
    found = connect().containers.run(
        image, ["-c", script], entrypoint="sh", remove=True, network_mode="none"
    )
    assert found.decode().strip() == decoders


def test_an_image_has_no_key() -> None:
    script = "grep -rlE 'BEGIN ([A-Z]+ )?PRIVATE KEY' /etc /run /var /opt/sluice/data /home; true"
    found = connect().containers.run(
        SLUICE, ["-c", script], entrypoint="sh", remove=True, network_mode="none", stderr=False
    )
    assert found == b""
