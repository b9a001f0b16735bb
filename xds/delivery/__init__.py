"""Delivers revisions to the nodes: follows the config, plans each rollout, and rolls back."""
