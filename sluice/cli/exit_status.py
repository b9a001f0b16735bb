"""Exit statuses of all commands. Scripts depend on them: a number never gets another meaning."""

from enum import IntEnum


class ExitStatus(IntEnum):
    """The exit status of a command. `meaning` is its row in the reference page."""

    meaning: str

    def __new__(cls, number: int, meaning: str) -> "ExitStatus":
        """A member with a meaning."""
        member = int.__new__(cls, number)
        member._value_ = number
        member.meaning = meaning
        return member

    OK = 0, "the command succeeded"
    FAILED = 1, "the command failed, for a reason that has no status of its own"
    USAGE = 2, "the config or an argument is not valid; nothing has changed"
    CONFLICT = (
        3,
        "the config has another revision than the command expected, or the gateway takes no edits "
        "because its config is a file; nothing has changed. `sluice explain`: the gateway would "
        "refuse the request",
    )
    REJECTED = (
        4,
        "an Envoy or a worker rejected the config (NACK), or it made the traffic worse "
        "(`rollout`); the last good one is in force",
    )
    NO_CONTROL_PLANE = 5, "no control plane answers"
    NOT_ALLOWED = 6, "the credentials are missing, not valid, or have not the role that is needed"
    TIMED_OUT = 7, "`--wait`: not all nodes have accepted the config in time"
    DIFFERENT = 8, "`sluice diff --exit-code`: there are changes"
    INTERRUPTED = 130, "the command was interrupted (Ctrl-C)"
