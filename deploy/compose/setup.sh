#!/bin/sh
# Makes what no image and no repository may contain: the key that signs tokens for the demo, and the
# certificates with which the parts of the gateway know each other. Each start renews the certificates.
set -eu
made=/var/lib/sluice/certs # with the key of the CA, and the certificate of the operator
sluice token --sub setup >/dev/null # creates the key
sluice certs "$made" --host control-plane --host callout --host video --operator operator --operator prometheus >/dev/null
# Prometheus runs as another user, and is the only one with its volume.
chmod 0644 "$made/prometheus.key"
# Each part gets only its own certificate. Parts that run see whole files.
for part in control-plane callout envoy video prometheus; do
    for file in ca.crt "$part.crt" "$part.key"; do
        cp -p "$made/$file" "/run/sluice/parts/$part/$file.new"
        mv "/run/sluice/parts/$part/$file.new" "/run/sluice/parts/$part/$file"
    done
done
