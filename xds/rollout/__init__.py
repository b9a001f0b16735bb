"""Carries a new snapshot to the nodes in an order that breaks no request."""
