"""envoy.service.ext_proc.v3.ExternalProcessor, and how it handles bodies."""
