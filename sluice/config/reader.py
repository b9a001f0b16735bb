"""Reads the versions of one config: only the models whose text has changed are read again.

`loads` reads a whole text, and is always right. Whatever is unusual in a text or wrong with it is
left to `loads`, so that its errors do not depend on earlier versions.
"""

from dataclasses import dataclass
from typing import TypeAlias

from pydantic import ValidationError

from sluice.config.document import DocumentError, Node
from sluice.config.errors import Place
from sluice.config.gateway import GatewayConfig
from sluice.config.load import ConfigText, loads
from sluice.config.model_blocks import KEY, Block, ModelBlocks, check_counts
from sluice.config.models import Model
from sluice.config.validation import booleans_as_numbers
from sluice.garbage_collection import without_collection


@dataclass(frozen=True, slots=True)
class _ReadModel:
    """A valid model, and what it counts for the bounds of a document."""

    model: Model
    nodes: int
    characters: int


_Models: TypeAlias = dict[str, _ReadModel]


class ConfigReader:
    """Reads texts. Models with the text of the version before are the same objects as in it."""

    def __init__(self) -> None:
        self._models: _Models = {}
        """Models of the latest version that was read in parts, by the text of their blocks."""

    def read(self, text: str, file: str, *, keep: bool = True) -> tuple[GatewayConfig, Place]:
        """Validate a config; `file` is its name in errors. Raises ConfigError.

        Returns also what finds the line of a key. `keep`: whether the models of this config replace
        those of the version before. Only one thread may do so; others may read meanwhile.
        """
        cut = ModelBlocks.of(text)
        read = None if cut is None else without_collection(self._read_parts, cut)
        if read is None:
            return loads(text, file), ConfigText(text, file).problem
        config, models = read
        if keep:
            self._models = models
        return config, ConfigText(text, file, cut).problem

    def _read_parts(self, cut: ModelBlocks) -> "tuple[GatewayConfig, _Models] | None":
        """The config and its models; None if the whole text must be read."""
        try:
            rest = cut.parse_rest()
            models = {block.text: self._model(block) for block in cut.blocks}
            counts = [(each.nodes, each.characters) for each in models.values()]
            check_counts(rest, counts)
            assert isinstance(rest.data, dict)
            names = (block.name for block in cut.blocks)
            read = dict(zip(names, (each.model for each in models.values()), strict=True))
            data = {**rest.data, KEY: read}
            config = GatewayConfig.model_validate(data)
        except (DocumentError, ValidationError):
            return None
        if any(booleans_as_numbers(data)):
            return None
        return config, models

    def _model(self, block: Block) -> _ReadModel:
        """Raises DocumentError or ValidationError."""
        known = self._models.get(block.text)
        return _read(block.name, block.parse()) if known is None else known


def _read(name: str, document: Node) -> _ReadModel:
    if any(booleans_as_numbers(document.data)):
        raise DocumentError("a boolean in place of a number")
    data = document.children[KEY].children[name].data
    return _ReadModel(Model.model_validate(data), document.nodes, document.characters)
