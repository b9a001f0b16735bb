"""Canary analysis: raises the percentage of a canary step by step, and promotes or aborts it."""
