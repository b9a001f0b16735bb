"""Text of other processes, made safe for a line of a log or of a terminal."""


def printable(text: str, limit: int) -> str:
    """Escape what is not printable, as in a Python string, and truncate to `limit` characters.

    A newline would forge a line of a log, an escape sequence would control the terminal, and a
    bidirectional control would reorder the text that follows it.
    """
    if text.isprintable() and len(text) <= limit:
        return text
    # No character becomes shorter, so the rest cannot appear in the result.
    escaped = "".join(map(_escaped, text[: limit + 1]))
    return escaped if len(escaped) <= limit else f"{escaped[: max(0, limit - 3)]}..."


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode()
