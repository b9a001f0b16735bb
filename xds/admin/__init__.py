"""What the control plane serves to operators over HTTP: status, config and metrics."""
