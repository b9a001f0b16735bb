"""HTTP servers of the control plane and the callout, and the client that asks them and Envoy."""
