"""What all commands check and create before they start processes of a gateway."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sluice.private_folder import private_folder
from sluice.runner.process import ProcessSpec, is_free


class StartError(Exception):
    """The processes could not be started. None of them runs."""


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A temporary folder that only this user can access. Raises StartError."""
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(private_folder("sluice-run-"))
        except OSError as error:
            raise StartError(
                f"no folder for temporary files: {error.strerror}; set TMPDIR to a folder that you "
                "can write"
            ) from error
        yield folder


def check_addresses(specs: Sequence[ProcessSpec]) -> None:
    """Raises StartError if a process cannot listen on its addresses."""
    unusable = [f"{a} ({s.name})" for s in specs for a in s.listens if not is_free(a)]
    if unusable:
        raise StartError(
            "address in use, not an address of this machine, or socket in a folder that cannot be "
            f"written: {', '.join(unusable)}\n"
            "  remedy: stop the other process, or change the addresses in the config; "
            "`sluice init FOLDER --port PORT` writes a demo config with other ports"
        )
