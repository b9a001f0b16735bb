"""Example models, their model server, and their training. The gateway imports none of it."""
