"""Inference of frames: the requests to the gateway, and the slots that bound their number."""
