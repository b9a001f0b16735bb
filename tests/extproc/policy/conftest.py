"""What tests of policies share."""

import pytest

from sluice.config import Model


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The JSON of each model that is read."""
    contents: list[bytes] = []
    validate = Model.model_validate_json

    def counted(content: bytes) -> Model:
        contents.append(content)
        return validate(content)

    monkeypatch.setattr(Model, "model_validate_json", counted)
    return contents
