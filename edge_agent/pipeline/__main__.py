"""`python -m edge_agent.pipeline`: started by the agent, which says by its first message what to do."""

from __future__ import annotations

import argparse
import signal
import socket
import sys
from types import FrameType

from edge_agent.inference.tether import tie_to_parent
from edge_agent.pipeline.counters import Counters
from edge_agent.pipeline.process import Process
from program.log import configure
from program.memory import keep_freed


def main() -> int:
    parser = argparse.ArgumentParser(prog="skerry-pipeline", description="frames in, rows and windows out; a child of skerry-agent")
    parser.add_argument("--socket-fd", type=int, required=True, help="the stream to the agent")
    parser.add_argument("--counters-fd", type=int, required=True, help="the file of counters")
    parser.add_argument("--parent-pid", type=int, required=True, help="die with this process")
    options = parser.parse_args()
    tie_to_parent(options.parent_pid)
    keep_freed()
    configure("skerry-pipeline")
    with socket.socket(fileno=options.socket_fd) as stream:
        process = Process(stream, Counters(options.counters_fd))

        def end(number: int, frame: FrameType | None) -> None:
            process.stopping = True

        signal.signal(signal.SIGTERM, end)
        process.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
