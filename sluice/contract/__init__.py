"""What the control plane and the callout must agree on: names, paths, headers and reasons.

Everything that one side writes and the other side reads stands here once, so that neither imports
the other.
"""
