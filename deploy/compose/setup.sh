#!/bin/sh
# Makes what no image and no repository may contain: the key that signs tokens for the demo, and the
# certificates with which the parts of the gateway know each other. Each start renews the certificates.
set -eu
identity=/run/sluice/identity
sluice token --sub setup >/dev/null # creates the key
sluice certs "$identity" --host control-plane --host callout --operator operator --operator prometheus >/dev/null
# Prometheus runs as another user.
chmod 0644 "$identity/prometheus.key"
