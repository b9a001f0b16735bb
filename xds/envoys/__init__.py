"""What the Envoys see: the health of the endpoints, and whether an Envoy still answers."""
