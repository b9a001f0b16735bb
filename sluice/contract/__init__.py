"""Names, paths, headers and reasons that the control plane and the callout must agree on.

Each is defined here once, so that neither side imports the other.
"""
