"""Running Larders."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def serving(program, *arguments, **environment):
    """A server, once it is ready, until the end of the block."""
    server = subprocess.Popen(
        [program, *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        told = []
        for line in server.stderr:
            told.append(line)
            if "now ready" in line:
                break
        else:
            sys.exit("".join(told))
        yield
    finally:
        server.send_signal(signal.SIGTERM)
        _, rest = server.communicate()
    # A defect that a client was told of as a 500 is a line with this word, wherever it was met.
    if server.returncode != 0 or re.search("panic", rest):
        sys.exit(f"the server ended with {server.returncode}:\n{rest}")
