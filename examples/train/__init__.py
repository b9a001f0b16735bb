"""Training of the example models. It needs scikit-learn and vaderSentiment, which have the data."""
