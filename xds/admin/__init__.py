"""The HTTP server of the control plane for operators: status, config and metrics."""
