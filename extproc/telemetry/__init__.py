"""Telemetry of the callout: access log, metrics and profiles."""
