"""What all tests of manifests share."""

import pytest

from tests.deploy import cluster_files
from tests.deploy.mounts import Contents


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    """What `create-secrets` makes, and the certificate for clients."""
    folder = tmp_path_factory.mktemp("cluster")
    certificates = cluster_files.certificates(folder / "certs")
    created = cluster_files.create_secrets(folder / "created", certificates)
    return {**created, **cluster_files.listener_certificate()}
