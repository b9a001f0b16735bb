"""Stores of the config history: what a store does, and the backends."""
