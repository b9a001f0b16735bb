"""Where the control plane reads its config from."""
