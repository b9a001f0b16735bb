"""Where configs come from."""
