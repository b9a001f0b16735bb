"""The callout service: decides on requests that Envoy asks about."""
