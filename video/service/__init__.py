"""What clients call, through Envoy: uploads of videos, and watching the streams of cameras."""
