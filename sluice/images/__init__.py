"""Geometry of images, apart from the callout so that other processes can use it."""
