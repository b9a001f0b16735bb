"""The control plane: compiles the config into xDS resources and serves them over ADS."""
