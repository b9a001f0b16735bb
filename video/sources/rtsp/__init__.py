"""Pulls video from cameras by RTSP and RTP.

The client is our own, so that a camera cannot make it connect to any other address, credentials
stay out of URLs and errors, `close` ends every wait, and a picture is complete with its last
packet. FFmpeg only decodes.
"""

from video.sources.rtsp.authentication import Credentials
from video.sources.rtsp.source import open_rtsp

__all__ = ["Credentials", "open_rtsp"]
