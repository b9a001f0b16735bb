"""The argument MODEL/VERSION."""

import argparse

from sluice.cli.commands import shown


def version_argument(parser: argparse.ArgumentParser) -> None:
    """Add the argument that names a version of a model: `options.target` is the pair."""
    parser.add_argument(
        "target", metavar="MODEL/VERSION", type=_version, help="a version of a model"
    )


def _version(text: str) -> tuple[str, str]:
    model, slash, version = text.partition("/")
    if not (model and slash and version) or "/" in version:
        raise argparse.ArgumentTypeError(f"write MODEL/VERSION, not {shown(text)}")
    return model, version
