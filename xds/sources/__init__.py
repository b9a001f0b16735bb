"""Config sources: where the control plane gets its config from."""
