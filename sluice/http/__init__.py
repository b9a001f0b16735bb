"""HTTP components that the control plane and the callout share."""
