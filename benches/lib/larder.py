"""A running Larder, seen only from outside."""

import http.client
import time
from pathlib import Path

from processes import Process, free_port

SALES = '"tk-bitio/Sales"."sales_data_sample"'


class Larder(Process):
    """`larder serve` with a configuration of the bench, once it is ready."""

    def __init__(
        self,
        program: Path,
        endpoints: str,
        folder: Path,
        settings: str = "",
        patience: float = 60.0,
        on_one_core: bool = True,
    ):
        """`settings` are further lines of `[repository]` and of the sections after it."""
        self.port = free_port()
        config = folder / f"larder-{self.port}.toml"
        config.write_text(
            f'[server]\nlisten = "127.0.0.1:{self.port}"\nmax_connections = 20_000\n'
            f'[repository]\nurl = "${{DATABASE_URL}}"\n{settings}\n{endpoints}\n'
        )
        command = [str(program), "serve", "-c", str(config)]
        begun = time.monotonic()
        super().__init__("larder", command, folder / "larder.log", on_one_core=on_one_core)
        try:
            self.wait_for(self.is_ready, patience)
        except BaseException:
            self.stop()
            raise
        self.start_up = time.monotonic() - begun

    def is_ready(self) -> bool:
        try:
            return get(self.port, "/readyz")[0] == 200
        except OSError:
            return False

    def metrics(self) -> dict[str, float]:
        """Every sample, by its name with labels."""
        text = get(self.port, "/metrics")[2].decode()
        samples = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    def total(self, metric: str, **labels: str) -> float:
        """The sum of all series of a metric with these labels."""
        wanted = [f'{name}="{value}"' for name, value in labels.items()]
        return sum(
            value
            for name, value in self.metrics().items()
            if name.partition("{")[0] == metric and all(label in name for label in wanted)
        )


def get(port: int, target: str, headers: dict[str, str] | None = None) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Status, headers and body of a response."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", target, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()
