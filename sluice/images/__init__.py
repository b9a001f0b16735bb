"""Image arithmetic that the callout and video share."""
