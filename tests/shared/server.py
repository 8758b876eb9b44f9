"""Runs `larder`."""

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
    """Runs a server for the duration of a `with` block, which begins when it is ready."""
    server = subprocess.Popen(
        [program, *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        lines = []
        for line in server.stderr:
            lines.append(line)
            if "now ready" in line:
                break
        else:
            sys.exit("".join(lines))
        yield
    finally:
        server.send_signal(signal.SIGTERM)
        _, rest = server.communicate()
    # Every panic is logged with this word, also one that a client saw as a 500.
    if server.returncode != 0 or re.search("panic", rest):
        sys.exit(f"the server ended with {server.returncode}:\n{rest}")
