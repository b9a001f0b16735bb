"""Explains the decision on a request, for the command line and the admin API.

The explanation runs the stages of the callout itself, so this package imports `extproc`. The
control plane does not import it: who starts the control plane passes an explainer.
"""
