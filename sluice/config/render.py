"""Writes plain data as YAML that `sluice.config.document` reads as the same data."""

import re

import yaml

from sluice.config.document import plain_value

_ONE_LINE = 1 << 30
"""Width of a line: a text is never folded, so that a diff of two configs shows whole values."""

_TEXT = "tag:yaml.org,2002:str"
_ESCAPED = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]")
"""Control characters and breaks of lines. Escaped, each text is in one line."""


class _Dumper(yaml.CSafeDumper):
    """Quotes texts that YAML 1.2 reads as another type, and writes no aliases."""

    def ignore_aliases(self, data: object) -> bool:
        """Write equal values twice: a block with an alias cannot be read alone."""
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # PyYAML quotes what YAML 1.1 reads as another type. `1e3` and `0o17` are numbers in 1.2 only.
    if _ESCAPED.search(text):
        return dumper.represent_scalar(_TEXT, text, style='"')
    style = None if not text or plain_value(text) == text else "'"
    return dumper.represent_scalar(_TEXT, text, style=style)


_Dumper.add_representer(str, _represent_text)


def render(data: object) -> str:
    """The data as YAML in block style. Maps keep their order."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_ONE_LINE)
