"""Sluice: the config schema, the command line and the local runner."""
