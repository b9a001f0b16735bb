"""Wire messages: our own, and the few of Envoy's that the hot path speaks, as generated code."""
