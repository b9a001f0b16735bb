"""Code that control plane and callout share, the command line, and the local runner."""
