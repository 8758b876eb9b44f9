"""A server under a prefix, behind a real nginx."""

import contextlib
import pathlib
import subprocess
import tempfile
import time
import urllib.request

from server import free_port

CONFIG = """
daemon off; master_process off; pid {folder}/pid; error_log stderr crit;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port}; location /api/v1/ {{ proxy_pass {origin}/; }} }}
}}
"""


@contextlib.contextmanager
def under_prefix(origin):
    """The URL of the server at `origin` behind nginx."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder, "nginx.conf")
        config.write_text(CONFIG.format(folder=folder, port=port, origin=origin))
        nginx = subprocess.Popen(["nginx", "-p", folder, "-e", "stderr", "-c", config])
        try:
            url = f"http://127.0.0.1:{port}/api/v1"
            while nginx.poll() is None:
                try:
                    urllib.request.urlopen(f"{url}/healthz").close()
                    break
                except OSError:
                    time.sleep(0.05)
            else:
                raise SystemExit("nginx has exited")
            yield url
        finally:
            nginx.kill()
            nginx.wait()
