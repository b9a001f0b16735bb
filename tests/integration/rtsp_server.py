"""An RTSP server of GStreamer: serves an H.264 film in a loop, in real time, to each client.

It sends the frames as they are in the film, so their numbers are exact. It runs with the Python of
the system, which has the bindings of GStreamer. `rtsp_camera` starts it.
"""

import argparse
from typing import Any


def _access_units(gst: Any, film: str) -> tuple[list[bytes], int, Any]:
    """The frames of a film as they are in MP4, the nanoseconds of each, and their format (caps)."""
    pipeline = gst.parse_launch(f"filesrc location={film} ! qtdemux ! appsink name=out sync=false")
    sink = pipeline.get_by_name("out")
    pipeline.set_state(gst.State.PLAYING)
    frames, duration, caps = [], 0, None
    while (sample := sink.emit("pull-sample")) is not None:
        buffer, caps = sample.get_buffer(), sample.get_caps()
        duration = buffer.duration
        frames.append(buffer.extract_dup(0, buffer.get_size()))
    pipeline.set_state(gst.State.NULL)
    return frames, duration, caps


def _serve(film: str, port: int, password: str | None, loops: int) -> None:
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtspServer

    Gst.init(None)
    frames, duration, caps = _access_units(Gst, film)
    # The payloader sends the parameter sets before each key frame.
    launch = (
        "( appsrc name=film is-live=true format=time block=true ! identity sync=true "
        "! rtph264pay name=pay0 pt=96 config-interval=-1 )"
    )

    def configure(_: object, media: Any) -> None:
        source = media.get_element().get_child_by_name("film")
        source.set_property("caps", caps)
        source.next_frame = 0

        def push(source: Any, _: int) -> None:
            number = source.next_frame
            if loops and number >= loops * len(frames):
                source.emit("end-of-stream")
                return
            buffer = Gst.Buffer.new_wrapped(frames[number % len(frames)])
            buffer.duration = duration
            buffer.pts = buffer.dts = number * duration
            source.next_frame = number + 1
            source.emit("push-buffer", buffer)

        source.connect("need-data", push)

    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(launch)
    factory.connect("media-configure", configure)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(port))
    if password is not None:
        _protect(GstRtspServer, Gst, server, factory, password)
    server.get_mount_points().add_factory("/film", factory)
    server.attach(None)
    print("listening", flush=True)
    GLib.MainLoop().run()


def _protect(library: Any, gst: Any, server: Any, factory: Any, password: str) -> None:
    """Let only the user `viewer` see the film."""
    auth = library.RTSPAuth()
    token = library.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth.add_basic(library.RTSPAuth.make_basic("viewer", password), token)
    server.set_auth(auth)
    permissions = library.RTSPPermissions()
    permissions.add_permission_for_role("viewer", "media.factory.access", True)
    permissions.add_permission_for_role("viewer", "media.factory.construct", True)
    factory.set_permissions(permissions)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("film")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--password")
    parser.add_argument("--loops", type=int, default=0, help="0: without end")
    options = parser.parse_args()
    _serve(options.film, options.port, options.password, options.loops)


if __name__ == "__main__":
    _main()
