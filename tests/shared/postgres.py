"""A Postgres for one test, which can be stopped and started again."""

import glob
import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile

from server import free_port

FOLDERS = ["/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin", "/usr/local/opt/postgresql*/bin"]


def program(name):
    """The path of the newest version."""
    found = [path for folder in FOLDERS for path in glob.glob(f"{folder}/{name}")]
    if not found and shutil.which(name) is None:
        raise SystemExit(f"there is no {name}: install postgresql")
    return shutil.which(name) or sorted(found)[-1]


class Postgres:
    """Runs in a temporary folder for the duration of a `with` block."""

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="larder-status-")
        # Postgres refuses to run as root; Debian's package brings a user for it.
        self.user = {}
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.folder.name, user.pw_uid, user.pw_gid)
            self.user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        self.data, self.port = pathlib.Path(self.folder.name) / "data", free_port()
        self.url = f"postgres://larder:not-to-be-shown@127.0.0.1:{self.port}/postgres?sslmode=disable"
        self.run(program("initdb"), "-D", self.data, "-U", "larder", "-A", "trust", "--no-sync")
        self.start()
        return self

    def __exit__(self, *_):
        if (self.data / "postmaster.pid").exists():
            self.stop()
        self.folder.cleanup()

    def start(self):
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        self.run(program("pg_ctl"), "-D", self.data, "-l", f"{self.folder.name}/log", "-o", options, "-w", "start")

    def stop(self):
        self.run(program("pg_ctl"), "-D", self.data, "-m", "fast", "-w", "stop")

    def run(self, *command):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.folder.name, **self.user)
