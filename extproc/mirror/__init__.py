"""Mirroring: sends copies of requests to another version, and compares the answers."""

from extproc.mirror.copies import Copies, ObservedRequest, mirror_of
from extproc.mirror.counts import CopyCounts

__all__ = ["Copies", "CopyCounts", "ObservedRequest", "mirror_of"]
