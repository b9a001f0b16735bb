"""The video service: cameras and uploads become frames, inference requests and events."""
