"""What operators see of requests and workers: access log, metrics, profiles."""
