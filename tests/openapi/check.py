"""Holds servers to the OpenAPI documents they show: `check.py FOLDER_OF_PROGRAMS`.

The demo, and a server of everything.toml on the Postgres that DATABASE_URL names, are asked whatever their
documents allow and forbid, by schemathesis. The documents themselves are held to the meta-schema of
OpenAPI 3.1, and to what `larder openapi` prints. The demo's /docs is opened in Chromium.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

import docs_page
from prefix import under_prefix
from server import free_port, serving

HERE = pathlib.Path(__file__).parent.resolve()
PROGRAMS = pathlib.Path(sys.argv[1]).resolve()
LARDER = PROGRAMS / "larder"
SEED = os.environ.get("SCHEMATHESIS_SEED", "1")  # another one asks other questions
SCHEMATHESIS = pathlib.Path(sys.executable).with_name("st")
VALIDATOR = pathlib.Path(sys.executable).with_name("openapi-spec-validator")


def without_examples(document):
    """What a server shows and the command line can not: examples are answers from memory."""
    for path in document["paths"].values():
        for media in path["get"]["responses"]["200"]["content"].values():
            media.pop("example", None)
    return document


def hold_to_its_document(url):
    with urllib.request.urlopen(f"{url}/openapi.json") as answer:
        text = answer.read()
    subprocess.run([VALIDATOR, "-"], input=text, check=True)
    command = [
        *(SCHEMATHESIS, "--config-file", HERE / "schemathesis.toml"),
        *("run", f"{url}/openapi.json", "--seed", SEED, "--no-color"),
    ]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE)}
    # It leaves what it remembers where it runs, and asks that again: no run shall hang on another.
    with tempfile.TemporaryDirectory() as folder:
        asked = subprocess.run(command, env=environment, cwd=folder)
    if asked.returncode != 0:
        sys.exit(f"schemathesis: {url} does not do what its document says; see above")
    return json.loads(text)


def main():
    port = free_port()
    with serving(LARDER, "demo", "--listen", f"127.0.0.1:{port}"):
        hold_to_its_document(f"http://127.0.0.1:{port}")
        docs_page.hold(f"http://127.0.0.1:{port}")
        with under_prefix(f"http://127.0.0.1:{port}") as url:
            # nginx undoes escapes of slashes where it takes off a prefix.
            docs_page.hold(url, country="Côte d'Ivoire 50%")

    subprocess.run(
        ["psql", "-q", "-v", "ON_ERROR_STOP=1", "-f", HERE / "everything.sql", os.environ["DATABASE_URL"]],
        check=True,
    )
    config, port = HERE / "everything.toml", free_port()
    with serving(LARDER, "serve", "-c", config, PORT=str(port)):
        shown = hold_to_its_document(f"http://127.0.0.1:{port}")
    printed = subprocess.run([LARDER, "openapi", "-c", config], stdout=subprocess.PIPE, check=True)
    if json.loads(printed.stdout) != without_examples(shown):
        sys.exit("`larder openapi` prints another document than the server shows")
    command = [LARDER, "openapi", "-c", config, "--server", "https://api.example/v1"]
    elsewhere = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    if elsewhere["servers"] != [{"url": "https://api.example/v1"}]:
        sys.exit(f"`larder openapi --server` prints {elsewhere['servers']}")


main()
