"""`sluice explain`: the decision on a request, stage by stage. Only `stages` imports extproc."""

from sluice.cli.explain.command import register

__all__ = ["register"]
