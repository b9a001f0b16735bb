"""Names, paths, headers, reasons and texts that two of control plane, callout and commands share.

Each is defined here once, so that neither side imports the other.
"""
