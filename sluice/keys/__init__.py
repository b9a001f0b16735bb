"""JSON Web Key Sets: parsing and fetching."""
