"""Reads, decodes, resizes and normalizes images. The callout and the video service use it."""
