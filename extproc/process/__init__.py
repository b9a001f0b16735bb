"""The processes of the callout: a supervisor and its workers, and what they have in common."""
