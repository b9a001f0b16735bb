"""The messages of YAML syntax errors: what is wrong in the line, and what to write.

The parser (libyaml) names tokens of its grammar. A message has no content of the file, which may be
a secret.
"""

from collections.abc import Mapping
from typing import Final

import yaml

TAB: Final = "a tab indents the line: use spaces"

_MISINDENTED: Final = "check the indentation: keys of one map begin in the same column"

_REMEDIES: Final[Mapping[str, str]] = {
    "found a tab character that violates indentation": TAB,
    "mapping values are not allowed in this context": "a second key begins where none is allowed: "
    'write a value that contains ": " in quotes, or check the indentation',
    "could not find expected ':'": "a key has no colon, or no blank after the colon; or text is "
    "not in quotes",
    "did not find expected key": f"{_MISINDENTED}; write nothing after text in quotes",
    "did not find expected '-' indicator": "check the indentation: items of one list begin with "
    "dashes in the same column",
    "block sequence entries are not allowed in this context": "begin the list in a new line, or "
    "write it as [a, b]",
    "did not find expected ',' or ']'": "a list has no closing ], or no comma between two items",
    "did not find expected ',' or '}'": "a map has no closing }, or no comma between two keys",
    "found unexpected end of stream": "a quote is not closed",
    "found unknown escape character": "write \\\\ for a backslash in double quotes, or use single "
    "quotes",
    "found undefined tag handle": "write text that begins with an exclamation mark in quotes",
    "did not find expected alphabetic or numeric character": "write text that begins with & or * "
    "in quotes",
    "did not find expected comment or line break": "write text that begins with > or | in quotes, "
    "or begin it in the next line",
    "did not find expected <document start>": "something follows the end of the document, such as "
    "one bracket too many",
}
"""What is wrong, by the problem that libyaml names."""

_WRONG_START: Final = "found character that cannot start any token"


def syntax_error(error: yaml.MarkedYAMLError, text: str) -> tuple[str, int]:
    """The message of an error, and its line (1-based, or 0 if it is not known)."""
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return f"the file is not valid YAML: {error.problem}", 0
    problem = error.problem or ""
    if problem == _WRONG_START:
        remedy = _first_character(text, mark)
    else:
        remedy = _REMEDIES.get(problem, problem)
    start = error.context_mark
    if problem in _UNCLOSED and start is not None and start.line < mark.line:
        remedy += f"; it begins in line {start.line + 1}"
    return f"the file is not valid YAML: {remedy}", mark.line + 1


_UNCLOSED: Final = (
    "did not find expected ',' or ']'",
    "did not find expected ',' or '}'",
    "found unexpected end of stream",
)
"""Problems that are found in a later line than their cause."""


def _first_character(text: str, mark: yaml.Mark) -> str:
    """What is wrong with a character that cannot begin a value."""
    line = next((each for n, each in enumerate(text.splitlines()) if n == mark.line), "")
    character = line[mark.column : mark.column + 1]
    if character == "\t":
        return TAB
    shown = character if character in ("@", "`", "%") else "this character"
    return f"write text that begins with {shown} in quotes"
