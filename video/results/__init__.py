"""Results of models become events, and events become bytes for clients and sinks."""
