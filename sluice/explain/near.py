"""Says what a request for an unknown model may have meant.

Only the operator sees this: the 404 of the gateway names no models, because clients may learn only
the models that they may use, and have not been authenticated yet.
"""

from sluice.config import PolicyDocument
from sluice.contract.paths import OIP_OPERATIONS, OIP_PREFIX
from sluice.near_names import near_name
from sluice.printable import printable

MAX_SHOWN = 100
"""Characters of a path or a name in a note."""


def near_model(document: PolicyDocument, path: str, model_name: str | None) -> str | None:
    """A note on the model that a request may have meant; None if no model has a similar name."""
    if not path.startswith(OIP_PREFIX):
        return _near_path(document, path) if model_name is None else _near(document, model_name)
    name, _, rest = path.removeprefix(OIP_PREFIX).partition("/")
    if name not in document.models:
        return _near(document, name)
    extra = document.models[name].extra_paths
    known = ", ".join(sorted({*OIP_OPERATIONS, *extra} - {""}))
    operation = printable(rest, MAX_SHOWN)
    return f"model {name} has no path {operation}; it has {known}; extra_paths adds paths"


def _near(document: PolicyDocument, name: str) -> str | None:
    near = near_name(name, document.models)
    return None if near is None else f"did you mean model {near}?"


def _near_path(document: PolicyDocument, path: str) -> str | None:
    paths = {each for name, model in document.models.items() for each in model.prefixes(name)}
    near = near_name(path, paths)
    if near is None:
        return f"models have the path {OIP_PREFIX}NAME, and those in paths"
    return f"did you mean {near}?"
