"""Candidates: configs that are checked before they are appended to the history as revisions."""
