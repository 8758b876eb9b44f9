"""The servers to compare, each with the same answers and no more than it needs."""

import json
import os
import shutil
import sys
from pathlib import Path

from larder import SALES, Larder
from processes import Process, answers, free_port

HERE = Path(__file__).parent

# Text and integers only: encoders write floats and dates differently.
LINES = f"""
SELECT ordernumber, quantityordered, productline, status, customername, country
FROM {SALES}, generate_series(1, 4) AS copy
ORDER BY ordernumber, orderlinenumber, copy LIMIT """

STATEMENTS = {
    "/count": f"SELECT count(*) FROM {SALES}",
    "/lines/2k": LINES + "15",
    "/lines/100k": LINES + "760",
    "/lines/1m": LINES + "7800",
}
"""Bodies of about 6 B, 2 KB, 100 KB and 1 MB."""

ENDPOINTS = '[defaults]\nmax_age = "1h"\n' + "".join(
    f"[[endpoint]]\npath = \"{path}\"\nsql = '''{sql}'''\nshape = \"{'tuple' if path == '/count' else 'rows'}\"\n"
    for path, sql in STATEMENTS.items()
)

NGINX = """
daemon off;
pid FOLDER/nginx.pid;
error_log stderr crit;
worker_processes 1;
worker_rlimit_nofile 40000;
events { worker_connections 20000; }
http {
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path FOLDER/nginx/body;
    proxy_temp_path FOLDER/nginx/proxy;
    fastcgi_temp_path FOLDER/nginx/fastcgi;
    uwsgi_temp_path FOLDER/nginx/uwsgi;
    scgi_temp_path FOLDER/nginx/scgi;
    proxy_cache_path FOLDER/nginx/cache keys_zone=answers:10m;
    sendfile on;
    gzip on;
    gzip_proxied any;
    gzip_types application/json;
    server {
        listen 127.0.0.1:LISTEN backlog=4096;
        location / {
            proxy_pass http://127.0.0.1:ORIGIN;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_cache answers;
            proxy_cache_lock on;
        }
    }
}
"""

VARNISH = """
vcl 4.1;
backend default { .host = "127.0.0.1"; .port = "ORIGIN"; }
sub vcl_backend_response {
    # Compressed once, when it is stored.
    if (beresp.http.Content-Type ~ "json" && std.integer(beresp.http.Content-Length, 0) >= 1024) {
        set beresp.do_gzip = true;
    }
}
"""


class Listening(Process):
    """A server that is ready once it listens."""

    def __init__(self, name: str, command: list[str], port: int, folder: Path, env=None):
        self.port = port
        super().__init__(name, command, folder / f"{name.split()[0].lower()}.log", env)
        try:
            self.wait_for(lambda: answers(port))
        except BaseException:
            self.stop()
            raise


def larder(program: Path, folder: Path) -> Larder:
    return Larder(program, ENDPOINTS, folder)


def floor(program: Path, folder: Path, answer: bytes) -> Listening:
    """hyper alone, with one response of Larder."""
    port, file = free_port(), folder / "answer.http"
    file.write_bytes(answer)
    return Listening("hyper", [str(program), f"127.0.0.1:{port}", str(file)], port, folder)


def flask(folder: Path, connection: str) -> Listening:
    """The blog post's server, with threads, so that connections can stay open."""
    port = free_port()
    gunicorn = [str(Path(sys.executable).parent / "gunicorn"), "--chdir", str(HERE), "-b", f"127.0.0.1:{port}"]
    gunicorn += ["-w", "1", "-k", "gthread", "--threads", "4", "--keep-alive", "60", "--backlog", "4096"]
    gunicorn += ["--worker-connections", "20000", "--worker-tmp-dir", str(folder), "flask_server:app"]
    statements = json.dumps(STATEMENTS)
    env = {"CONNECTION": connection, "STATEMENTS": statements}
    return Listening(f"flask {connection}", gunicorn, port, folder, env)


def nginx(folder: Path, origin: int) -> Listening:
    port = free_port()
    shutil.rmtree(folder / "nginx", ignore_errors=True)
    (folder / "nginx").mkdir()
    text = NGINX.replace("FOLDER", str(folder)).replace("LISTEN", str(port)).replace("ORIGIN", str(origin))
    config = folder / "nginx.conf"
    config.write_text(("user root;\n" if os.getuid() == 0 else "") + text)
    return Listening("nginx", ["nginx", "-e", "stderr", "-p", str(folder), "-c", str(config)], port, folder)


def varnish(folder: Path, origin: int) -> Listening:
    port = free_port()
    config = folder / "varnish.vcl"
    config.write_text(VARNISH.replace("vcl 4.1;", "vcl 4.1;\nimport std;").replace("ORIGIN", str(origin)))
    shutil.rmtree(folder / "varnish", ignore_errors=True)
    command = ["varnishd", "-F", "-a", f"127.0.0.1:{port}", "-f", str(config), "-n", str(folder / "varnish")]
    command += ["-s", "malloc,256m", "-p", "listen_depth=4096", "-p", "thread_pool_max=1000"]
    return Listening("varnish", command, port, folder)
