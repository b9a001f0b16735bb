"""Sinks: files, Redis Streams, webhooks and MQTT get each event of a stream at least once."""
