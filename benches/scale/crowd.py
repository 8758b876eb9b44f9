"""Many clients request a cold key at once: one query."""

import selectors
import socket
import time

from larder import Larder
from report import say, table

ENDPOINT = """
[[endpoint]]
path = "/cold/{id}"
sql = "SELECT :id::int8 AS id, 'loaded' AS state FROM pg_sleep(3)"
shape = "row"
max_age = "1h"
"""


def request_at_once(port: int, target: str, clients: int) -> tuple[dict[str, int], float, float]:
    """Connects all, then sends all requests at once. Returns answers by status, and the seconds until all were sent and
    until the last answer."""
    request = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode()
    sockets = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(clients)]
    begun = time.monotonic()
    with selectors.DefaultSelector() as selector:
        for client in sockets:
            client.sendall(request)
            client.setblocking(False)
            selector.register(client, selectors.EVENT_READ, bytearray())
        sent = time.monotonic() - begun
        statuses: dict[str, int] = {}
        left = clients
        while left:
            ready = selector.select(60)
            if not ready:
                statuses["no answer"] = left
                break
            for key, _ in ready:
                if read := key.fileobj.recv(65536):
                    key.data.extend(read)
                    continue
                selector.unregister(key.fileobj)
                head = key.data.split(b"\r\n", 1)[0].decode()
                how = b"collapsed" if b"fwd=miss; collapsed" in key.data else b"stored"
                status = f"{head.split(' ')[1] if ' ' in head else 'hung up'}, {how.decode()}"
                statuses[status] = statuses.get(status, 0) + 1
                left -= 1
    elapsed = time.monotonic() - begun
    for client in sockets:
        client.close()
    return statuses, sent, elapsed


def run(options, folder) -> tuple[str, list[str]]:
    rows, broken = [], []
    with Larder(options.larder, ENDPOINT, folder) as server:
        for number in range(min(options.rounds, 3)):
            before = server.total("larder_repository_queries_total")
            statuses, sent, elapsed = request_at_once(server.port, f"/cold/{number}", options.clients)
            queries = server.total("larder_repository_queries_total") - before
            answered = sum(count for status, count in statuses.items() if status.startswith("200"))
            if queries != 1 or answered != options.clients:
                broken.append(f"{options.clients:,} clients on a cold key: {queries:.0f} queries, {statuses}")
            say(f"{options.clients:,} clients: {queries:.0f} queries, {statuses}")
            rows.append([
                f"{options.clients:,}",
                f"{queries:.0f}",
                f"{answered:,}",
                f"{sent:.2f} s",
                f"{elapsed:.2f} s",
                f"{server.memory() / 2**20:.0f}",
            ])
    header = ["clients on a cold key", "queries", "answers", "all had sent after", "last answer after", "MiB"]
    return "**A crowd** (target: 1 query; the query takes 3 s)\n\n" + table(header, rows), broken
