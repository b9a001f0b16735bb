"""Runs worker processes: starts them, replaces those that end or hang, and drains them."""
