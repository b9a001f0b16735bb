"""Geometry of images, separate from the callout so that other processes can use it."""
