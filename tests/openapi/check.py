"""Checks servers against their OpenAPI documents: `check.py FOLDER_OF_PROGRAMS FOLDER_FOR_SCREENSHOTS`.

schemathesis sends what the documents allow and what they forbid to the demo, and to servers of everything.toml and,
with several credentials, of access.toml, on the Postgres that DATABASE_URL names. The documents are validated against
the meta-schema of OpenAPI 3.1 and compared with the output of `larder openapi`. /docs of the demo and of access.toml
is opened in Chromium.
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
SHOTS = pathlib.Path(sys.argv[2]).resolve()
SEED = os.environ.get("SCHEMATHESIS_SEED", "1")  # another seed sends other requests
SCHEMATHESIS = pathlib.Path(sys.executable).with_name("st")
VALIDATOR = pathlib.Path(sys.executable).with_name("openapi-spec-validator")


def without_examples(document):
    """Examples are answers from memory, which the command line does not have."""
    for path in document["paths"].values():
        for media in path["get"]["responses"]["200"]["content"].values():
            media.pop("example", None)
    return document


def check_document(url, key=None):
    """Checks a server against its document for the caller with this key."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/openapi.json", headers=headers)) as answer:
        text = answer.read()
    subprocess.run([VALIDATOR, "-"], input=text, check=True)
    command = [
        *(SCHEMATHESIS, "--config-file", HERE / "schemathesis.toml"),
        *("run", f"{url}/openapi.json", "--seed", SEED, "--no-color"),
        *(f"--header={name}: {value}" for name, value in headers.items()),
    ]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE)}
    # It stores failing cases in its working directory and replays them. Runs must be independent.
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run(command, env=environment, cwd=folder)
    if result.returncode != 0:
        sys.exit(f"schemathesis: {url} does not match its document; see above")
    return json.loads(text)


def main():
    port = free_port()
    with serving(LARDER, "demo", "--listen", f"127.0.0.1:{port}"):
        check_document(f"http://127.0.0.1:{port}")
        docs_page.check(f"http://127.0.0.1:{port}")
        with under_prefix(f"http://127.0.0.1:{port}") as url:
            # nginx decodes escaped slashes when it strips a prefix.
            docs_page.check(url, country="Côte d'Ivoire 50%")

    subprocess.run(
        ["psql", "-q", "-v", "ON_ERROR_STOP=1", "-f", HERE / "everything.sql", os.environ["DATABASE_URL"]],
        check=True,
    )
    config, port = HERE / "everything.toml", free_port()
    with serving(LARDER, "serve", "-c", config, PORT=str(port)):
        served = check_document(f"http://127.0.0.1:{port}")
    printed = subprocess.run([LARDER, "openapi", "-c", config], stdout=subprocess.PIPE, check=True)
    if json.loads(printed.stdout) != without_examples(served):
        sys.exit("`larder openapi` prints a different document than the server serves")
    command = [LARDER, "openapi", "-c", config, "--server", "https://api.example/v1"]
    elsewhere = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    if elsewhere["servers"] != [{"url": "https://api.example/v1"}]:
        sys.exit(f"`larder openapi --server` prints {elsewhere['servers']}")

    check_credentials()


def check_credentials():
    config, port = HERE / "access.toml", free_port()
    url = f"http://127.0.0.1:{port}"
    with serving(LARDER, "serve", "-c", config, PORT=str(port)):
        documents = {
            "nobody": check_document(url),
            "guest": check_document(url, "guest-key"),
            "seller": check_document(url, "seller-key"),
        }
        docs_page.check_credentials(url, SHOTS)
    paths = {name: [*document["paths"]] for name, document in documents.items()}
    expected = {
        "nobody": ["/open/{n}"],
        "guest": ["/open/{n}", "/closed/{n}", "/mine/{n}", "/near"],
        "seller": ["/open/{n}", "/closed/{n}", "/sales/{n}", "/stock", "/mine/{n}", "/near"],
    }
    if paths != expected:
        sys.exit(f"callers are shown {paths}")
    for document in documents.values():
        for path, item in document["paths"].items():
            operation = item["get"]
            is_closed = "security" in operation
            if is_closed != (path != "/open/{n}") or is_closed != ({"401", "403"} <= operation["responses"].keys()):
                sys.exit(f"the document is wrong about access to {path}")


main()
