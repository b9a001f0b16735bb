"""The policy of a worker: compiled for decisions, held as the current one, received over ADS."""
