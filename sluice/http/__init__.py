"""What the HTTP servers of the control plane and of the callout have in common."""
