"""`sluice explain`: the decision on a request, stage by stage, for arguments in curl's syntax."""

from sluice.cli.explain.command import register

__all__ = ["register"]
