"""Servers as processes: on a core of their own, with what they cost by the system's own accounting."""

import contextlib
import functools
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

TICK = 1 / os.sysconf("SC_CLK_TCK")
PATIENCE = 60.0
"""Seconds a server may take to start or to end."""


@functools.cache
def cores() -> tuple[int, set[int]]:
    """The servers' core, and those of everything else: this program, what loads, and Postgres."""
    first, *others = sorted(os.sched_getaffinity(0))
    return first, set(others or [first])


def prepare():
    """Makes room for the servers: their core is left to them by everything that was started before, and
    there are as many file descriptors as the system allows. Told to end, the program ends what it started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    _, others = cores()
    for pid in [os.getpid(), *family(os.getppid())]:
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(task.name), others)


def free_port() -> int:
    """Free until a moment before a server takes it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Process:
    """A server with all its workers. It is ended with the block that it was started for."""

    def __init__(
        self,
        name: str,
        command: list[str],
        log: Path,
        env: dict[str, str] | None = None,
        on_one_core: bool = True,
    ):
        core, others = cores()
        own = {core} if on_one_core else {core} | others
        self.name, self.log = name, log
        with log.open("ab") as out:
            self.child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=os.environ | (env or {}),
                preexec_fn=lambda: os.sched_setaffinity(0, own),
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def wait_for(self, is_ready, patience: float = PATIENCE):
        """Returns what `is_ready` says once that is true."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if self.child.poll() is not None:
                raise RuntimeError(f"{self.name} has ended:\n{self.last_words()}")
            if ready := is_ready():
                return ready
            time.sleep(0.01)
        raise RuntimeError(f"{self.name} is not ready after {patience:.0f} s:\n{self.last_words()}")

    def last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])

    def stop(self):
        if self.child.poll() is not None:
            return
        self.child.send_signal(signal.SIGTERM)
        try:
            self.child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()

    def cpu(self) -> float:
        """Seconds of processor time so far, of all its processes."""
        return sum(cpu_of(pid) for pid in family(self.child.pid))

    def memory(self) -> int:
        """Bytes in memory. What processes share is counted once."""
        return sum(memory_of(pid) for pid in family(self.child.pid))


def told(file: Path) -> str:
    """What Linux tells of a process; nothing once that has ended, between a look at it and the next too."""
    try:
        return file.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in told(task).split()]


def family(pid: int) -> list[int]:
    """A process and what descends from it."""
    members = [pid]
    for member in members:
        members += children(member)
    return members


def postgres_cpu() -> float:
    """Seconds of processor time so far, of the Postgres that was started with this program."""
    [postmaster] = [pid for pid in children(os.getppid()) if told(Path(f"/proc/{pid}/comm")).startswith("postgres")]
    return sum(cpu_of(pid) for pid in family(postmaster))


def cpu_of(pid: int) -> float:
    text = told(Path(f"/proc/{pid}/stat"))
    if not text:
        return 0  # It is counted by its parent.
    # The second field is the program's name in brackets, which may hold anything. User and system time
    # are the fourteenth and the fifteenth; then those of children that have ended.
    fields = text.rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) * TICK


def memory_of(pid: int) -> int:
    text = told(Path(f"/proc/{pid}/smaps_rollup"))
    if not text:
        return 0
    for line in text.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"the system does not tell how much memory process {pid} holds")


def answers(port: int) -> bool:
    """Whether something listens."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False
