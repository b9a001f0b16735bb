"""The processes of the callout: one supervisor and its workers."""
