"""`sluice video`: analyses one video by hand, and shows what the model finds."""

from sluice.cli.video.command import register

__all__ = ["register"]
