"""Endpoint sources: where the endpoints of versions come from that the config does not list."""
