"""Servers as processes on a core of their own, with the processor time and memory that Linux accounts to them."""

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
"""Seconds that a server may take to start or to stop."""


@functools.cache
def cores() -> tuple[int, set[int]]:
    """The servers' core, and the cores of everything else: this program, the load, and Postgres."""
    first, *others = sorted(os.sched_getaffinity(0))
    return first, set(others or [first])


def prepare():
    """Moves everything that was started before off the servers' core, and raises the open-file limit. On SIGTERM the
    program ends what it started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    _, others = cores()
    for pid in [os.getpid(), *family(os.getppid())]:
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(task.name), others)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Process:
    """A server with all its workers. It is stopped at the end of its `with` block."""

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
        """Returns the result of `is_ready` once that is true."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if self.child.poll() is not None:
                raise RuntimeError(f"{self.name} has exited:\n{self.last_words()}")
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
        """Resident bytes. Memory that processes share is counted once."""
        return sum(memory_of(pid) for pid in family(self.child.pid))


def read_proc(file: Path) -> str:
    """The content of a file in /proc; empty once its process has exited."""
    try:
        return file.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in read_proc(task).split()]


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    members = [pid]
    for member in members:
        members += children(member)
    return members


def postgres_cpu() -> float:
    """Seconds of processor time so far, of the Postgres that `with_postgres` started."""
    [postmaster] = [pid for pid in children(os.getppid()) if read_proc(Path(f"/proc/{pid}/comm")).startswith("postgres")]
    return sum(cpu_of(pid) for pid in family(postmaster))


def cpu_of(pid: int) -> float:
    text = read_proc(Path(f"/proc/{pid}/stat"))
    if not text:
        return 0  # Its parent counts it.
    # proc_pid_stat(5): the second field is the name in parentheses, which may contain anything. Fields 14 to 17 are
    # user and system time, of the process and of its children that have exited.
    fields = text.rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) * TICK


def memory_of(pid: int) -> int:
    text = read_proc(Path(f"/proc/{pid}/smaps_rollup"))
    if not text:
        return 0
    for line in text.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"the memory of process {pid} is not in /proc")


def answers(port: int) -> bool:
    """Whether something listens on the port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False
