"""Running streams: from the frames of a source, through inference, to the events of outputs."""
