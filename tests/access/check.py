"""Checks that a server accepts tokens of other implementations: `check.py FOLDER_OF_PROGRAMS FOLDER_OF_NPM_PACKAGES`.

npm's jose, PyPI's joserfc and Debian's jose sign a token with each algorithm that they have. Then two real issuers,
npm's oidc-provider and oauth2-mock-server, issue tokens, and rotate their keys while the server runs. The Postgres is
the one that DATABASE_URL names.
"""

import base64
import contextlib
import json
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from joserfc import jwk, jwt
from server import free_port, serving

HERE = pathlib.Path(__file__).parent.resolve()
LARDER = pathlib.Path(sys.argv[1]).resolve() / "larder"
PACKAGES = pathlib.Path(sys.argv[2]).resolve()
ALGORITHMS = ["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]
BY_DEBIAN = [algorithm for algorithm in ALGORITHMS if algorithm != "EdDSA"]  # it has no Edwards curves
SECRET = "another-secret-that-is-long-enough-for-a-hash-of-sixty-four-bytes-too"
RENEWAL = 45  # seconds: keys are fetched again for an unknown `kid` at most every 30, on a busy machine

CONFIG = """
[server]
listen = "127.0.0.1:${PORT}"

[repository]
url = "${DATABASE_URL}"

[access]
default = "deny"

[[endpoint]]
path = "/mine"
sql = "SELECT :tenant AS tenant"
shape = "value"
max_age = "1h"
params.tenant = { claim = "tenant" }
"""


def claims(who, algorithm):
    now = int(time.time())
    return {
        "iss": f"https://{who}.example/{algorithm}", "aud": "larder", "iat": now, "exp": now + 600,
        "tenant": f"{who} {algorithm}",
    }


def by_npm():
    command = ["node", PACKAGES / "tokens.mjs", *ALGORITHMS]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def by_pypi():
    def made(algorithm):
        match algorithm[:2]:
            case "HS":
                key = jwk.OctKey.import_key(SECRET)
            case "RS" | "PS":
                key = jwk.RSAKey.generate_key(2048, {"kid": "1"})
            case "ES":
                key = jwk.ECKey.generate_key({"ES256": "P-256", "ES384": "P-384"}[algorithm], {"kid": "1"})
            case _:
                key = jwk.OKPKey.generate_key("Ed25519", {"kid": "1"})
        header = {"alg": algorithm, "kid": "1"}
        token = jwt.encode(header, claims("pypi", algorithm), key, algorithms=[algorithm])
        is_secret = algorithm.startswith("HS")
        keys = None if is_secret else [key.as_dict(private=False)]
        return {"alg": algorithm, "keys": keys, "secret": SECRET if is_secret else None, "token": token}

    return [made(algorithm) for algorithm in ALGORITHMS]


def by_debian():
    def run(*arguments, text):
        result = subprocess.run(["jose", *arguments], input=text, stdout=subprocess.PIPE, check=True, text=True)
        return result.stdout

    def made(algorithm, folder):
        is_secret = algorithm.startswith("HS")
        if is_secret:
            octets = base64.urlsafe_b64encode(SECRET.encode()).rstrip(b"=").decode()
            key = json.dumps({"kty": "oct", "alg": algorithm, "k": octets})
        else:
            key = run("jwk", "gen", "-i-", text=json.dumps({"alg": algorithm}))
        file = folder / f"{algorithm}.jwk"
        file.write_text(key)
        template = json.dumps({"protected": {"alg": algorithm, "typ": "JWT"}})
        payload = json.dumps(claims("debian", algorithm))
        token = run("jws", "sig", "-I-", "-k", str(file), "-s", template, "-c", text=payload).strip()
        keys = None if is_secret else [json.loads(run("jwk", "pub", "-i-", text=key))]
        return {"alg": algorithm, "keys": keys, "secret": SECRET if is_secret else None, "token": token}

    with tempfile.TemporaryDirectory() as folder:
        return [made(algorithm, pathlib.Path(folder)) for algorithm in BY_DEBIAN]


def issuer(name, url, algorithm, keys):
    return (
        f'\n[[access.jwt]]\nname = "{name}"\nissuer = "{url}"\naudience = ["larder"]\n'
        f'algorithms = ["{algorithm}"]\nkeys = {{ {keys} }}\n'
    )


def ask(url, token):
    """The status, and the answer or the code of the problem."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["code"]


def expect(found, expected, what):
    if found != expected:
        sys.exit(f"{what}: {found} instead of {expected}")


def flipped(token):
    """The token with another bit in the middle of its signature."""
    signed, _, signature = token.rpartition(".")
    middle = len(signature) // 2
    other = "B" if signature[middle] == "A" else "A"
    return f"{signed}.{signature[:middle]}{other}{signature[middle + 1:]}"


def check_implementations():
    tokens = {"npm": by_npm(), "pypi": by_pypi(), "debian": by_debian()}
    with tempfile.TemporaryDirectory() as folder:
        folder, config = pathlib.Path(folder), CONFIG
        for who, made in tokens.items():
            for one in made:
                algorithm = one["alg"]
                name = f"{who}-{algorithm}"
                keys = f'secret = "{one.get("secret")}"'
                if one.get("keys"):
                    (folder / f"{name}.json").write_text(json.dumps({"keys": one["keys"]}))
                    keys = f'file = "{name}.json"'
                config += issuer(name, f"https://{who}.example/{algorithm}", algorithm, keys)
        (folder / "config.toml").write_text(config)
        port = free_port()
        url = f"http://127.0.0.1:{port}/mine"
        with serving(LARDER, "serve", "-c", folder / "config.toml", PORT=str(port)):
            for who, made in tokens.items():
                for one in made:
                    what = f"a token of {who} with {one['alg']}"
                    expect(ask(url, one["token"]), (200, f"{who} {one['alg']}"), what)
                    expect(ask(url, flipped(one["token"])), (401, "LRD-202"), f"{what}, changed")
    print(f"tokens of {', '.join(tokens)}: accepted, and refused with a bit changed")


@contextlib.contextmanager
def issuers():
    """Runs the issuers; yields their URLs, and what has them do something."""
    program = subprocess.Popen(
        ["node", PACKAGES / "issuers.mjs"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "NODE_ENV": "production"},
    )
    values = (json.loads(line) for line in program.stdout)

    def have(what, name):
        program.stdin.write(f"{what} {name}\n")
        return next(values)

    try:
        yield next(values), have
    finally:
        program.stdin.close()
        program.wait()


def once_accepted(url, token, tenant):
    """Waits until the server has the key of a token."""
    deadline = time.monotonic() + RENEWAL
    while (found := ask(url, token)) != (200, tenant):
        expect(found, (401, "LRD-202"), "a token with a new key")
        if time.monotonic() > deadline:
            sys.exit(f"a token with a new key is not accepted after {RENEWAL} s: {found}")


def check_issuers():
    with issuers() as (found, have), tempfile.TemporaryDirectory() as folder:
        config = CONFIG
        for (name, at), algorithm in zip(found.items(), ["ES256", "RS256"]):
            config += issuer(name, at["url"], algorithm, f'url = "{at["jwks"]}"')
        file, port = pathlib.Path(folder) / "config.toml", free_port()
        file.write_text(config)
        url = f"http://127.0.0.1:{port}/mine"
        with serving(LARDER, "serve", "-c", file, PORT=str(port)):
            old = {name: have("token", name) for name in found}
            for name, token in old.items():
                once_accepted(url, token, f"of {name}")
            for name in found:
                have("rotate", name)
            new = {name: have("token", name) for name in found}
            for name, token in new.items():
                once_accepted(url, token, f"of {name}")
                expect(ask(url, old[name]), (401, "LRD-202"), f"a token of {name} with a key that was withdrawn")
            for name, token in new.items():
                before = have("fetches", name)
                header = json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "=="))
                _, rest = token.split(".", 1)
                for number in range(50):
                    made_up = json.dumps({**header, "kid": f"made-up-{number}"}).encode()
                    made_up = base64.urlsafe_b64encode(made_up).rstrip(b"=").decode()
                    expect(ask(url, f"{made_up}.{rest}"), (401, "LRD-202"), "a token with a made-up kid")
                more = have("fetches", name) - before
                if more > 1:
                    sys.exit(f"50 made-up kids had the keys of {name} fetched {more} times")
                expect(ask(url, token), (200, f"of {name}"), f"a token of {name} after that")
    print(f"tokens of {' and '.join(found)}: accepted, before and after the issuer rotated its key")


check_implementations()
check_issuers()
