"""JSON Merge Patch (RFC 7396) for plain data and for the text of a config."""

from sluice.config.document import parse
from sluice.config.edit import model_data, section_data, with_model, with_section, without_model
from sluice.config.model_blocks import KEY
from sluice.config.render import render

MAX_SINGLE_EDITS = 16
"""Models of one patch that are edited one by one. More are cheaper in one pass over the text."""

Data = dict[str, object]


def merged(target: object, patch: object) -> object:
    """The target with the patch applied, which has a bounded depth (RFC 7396 section 2)."""
    if not isinstance(patch, dict):
        return patch
    result: Data = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def patched_config(text: str, patch: Data) -> str:
    """The text of a config with a patch applied."""
    models = patch.get(KEY)
    if isinstance(models, dict) and len(models) > MAX_SINGLE_EDITS:
        root = parse(text)
        return render(merged(None if root is None else root.data, patch))
    for key, value in patch.items():
        if key == KEY and isinstance(value, dict):
            text = _patched_models(text, value)
        elif value is None:
            text = with_section(text, key, None)
        else:
            text = with_section(text, key, merged(section_data(text, key), value))
    return text


def _patched_models(text: str, patch: Data) -> str:
    for name, value in patch.items():
        present = model_data(text, name)
        if value is not None:
            text = with_model(text, name, merged(present, value))
        elif present is not None:
            text = without_model(text, name)
    return text
