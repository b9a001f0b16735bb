"""Compares the answers of a real Envoy with `decide()`, over random policies and requests.

The property: if Envoy admits a request by a native route, `decide()` admits it too, with the same
cluster, version, headers set and headers removed. All other answers must be those of `decide()`.
"""
