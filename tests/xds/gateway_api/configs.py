"""A config that uses everything that the export to Gateway API supports."""

from typing import Final

RICH: Final[dict[str, object]] = {
    "callout": {"workers": 2},
    "models": {
        "Sentiment_2.0": {
            "stable": "v1",
            "versions": {
                "v1": {
                    "endpoints": [
                        {"address": "10.0.0.1:80", "weight": 3},
                        {"address": "10.0.0.2:80"},
                        {"address": "sentiment.example.com:80"},
                    ],
                    "health_check": {"path": "/health", "interval": 0.5},
                },
                "v2": {"endpoints_from": {"dns": {"name": "sentiment.ml.svc", "port": 80}}},
            },
            "canaries": [{"version": "v2", "percent": 10}],
            "retries": {"attempts": 2, "retry_on": ["5xx"], "per_try_timeout": 1.5},
            "pool": {"max_requests_per_connection": 1000, "tcp_keepalive": None},
            "timeout": 0,
        },
        "digits": {
            "versions": {
                "v1": {
                    "endpoints_from": {
                        "kubernetes": {"service": "triton", "namespace": "ml", "port": 8001}
                    },
                    "protocol": "grpc",
                    "health_check": {},
                }
            },
            "inputs": [{"name": "image", "datatype": "UINT8", "shape": [-1, 32, 32, 1],
                        "image": {"width": 32, "height": 32, "color": "GRAY"}}],
        },
        "remote": {
            "stable": "v1",
            "versions": {
                "v1": {
                    "endpoints": [{"address": "llm.example.com:443"}],
                    "tls": {"ca": "ca.pem", "certificate": "client.pem", "private_key": "key.pem"},
                },
                "v2": {
                    "endpoints": [{"address": "[2001:db8::1]:443"}],
                    "tls": {"allow_any_server": True},
                },
            },
        },
    },
}  # fmt: skip
