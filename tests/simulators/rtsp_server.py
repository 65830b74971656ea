"""An RTSP camera by GStreamer: `/usr/bin/python3 rtsp_server.py PORT WIDTH HEIGHT`. Debian's own Python runs it, which has the bindings.

H.264 and sound over RTP, ten pictures a second, a key picture each second. Port 0 is any. It prints its port when it listens. At SIGUSR1
the picture stops for those who are connected, and the sound goes on.
"""

import signal
import sys

import gi  # type: ignore[import-not-found]

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # type: ignore[import-not-found]  # noqa: E402  versions come first

PICTURES = "videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width={},height={},framerate=10/1"
SENT = "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 ! valve name=valve ! rtph264pay name=pay0 pt=96"
SOUND = "audiotestsrc is-live=true ! audio/x-raw,rate=8000,channels=1 ! mulawenc ! rtppcmupay name=pay1 pt=0"


def main(port: str, width: str, height: str) -> None:
    Gst.init(None)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_shared(True)
    factory.set_launch(f"( {PICTURES.format(width, height)} ! {SENT} {SOUND} )")
    factory.connect("media-configure", stop_at_signal)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    server.get_mount_points().add_factory("/line", factory)
    server.attach(None)
    print(server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


def stop_at_signal(_factory: object, media: object) -> None:
    """Media are made anew when nobody is connected any more."""
    valve = media.get_element().get_by_name("valve")  # type: ignore[attr-defined]

    def stop() -> bool:
        valve.set_property("drop", True)
        return GLib.SOURCE_REMOVE  # type: ignore[no-any-return]

    GLib.unix_signal_add(GLib.PRIORITY_HIGH, signal.SIGUSR1, stop)


if __name__ == "__main__":
    main(*sys.argv[1:])
