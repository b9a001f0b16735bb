"""What the control plane writes into revisions that it appends by itself, and commands read."""

from typing import Final

AUTHOR: Final = "sluice"
"""The author of revisions that the control plane appends by itself, and of its decisions."""

ROLLBACK: Final = "rollback"
"""The origin of revisions that restore an earlier config."""


def rejection(revision: int, reason: str) -> str:
    """Why a revision is not in force: the reason of the revision that restores the one before."""
    return f"{_rejected(revision)}{reason}"


def rejection_reason(text: str, revision: int) -> str:
    """The reason in a `rejection` of this revision, or the whole text if it is none."""
    return text.removeprefix(_rejected(revision))


def _rejected(revision: int) -> str:
    return f"revision {revision} is rejected: "
