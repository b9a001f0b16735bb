"""Rolls a new snapshot out to the nodes, in an order that makes no request fail."""
