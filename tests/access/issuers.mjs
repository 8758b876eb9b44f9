// Two issuers of tokens on loopback, `oidc-provider` and `oauth2-mock-server`. Prints the port of each, and then answers
// lines on stdin: `token NAME`, `rotate NAME` (a new key in place of the old one) and `fetches NAME` (of the keys).
import http from "node:http";
import readline from "node:readline";
import { exportJWK, generateKeyPair } from "jose";
import { OAuth2Server } from "oauth2-mock-server";
import Provider from "oidc-provider";

console.warn = console.info = () => {}; // advice for a provider that is deployed

const RESOURCE = "https://larder.example/";

/** Serves what `make` returns on a port of its own, and counts the requests for keys. */
async function issuer(make, jwksPath, tokenPath) {
  const it = { fetches: 0, keys: 0 };
  const server = http.createServer((request, response) => {
    if (request.url === jwksPath) it.fetches += 1;
    it.handler(request, response);
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  it.url = `http://127.0.0.1:${server.address().port}`;
  it.jwks = it.url + jwksPath;
  it.rotate = async () => {
    it.keys += 1;
    it.handler = await make(it.url, `key-${it.keys}`);
    return it.keys;
  };
  it.token = async () => {
    const answer = await fetch(it.url + tokenPath, {
      method: "POST",
      headers: {
        Authorization: `Basic ${Buffer.from("client:secret").toString("base64")}`,
        "Content-Type": "application/x-www-form-urlencoded",
      },
      body: new URLSearchParams({ grant_type: "client_credentials", scope: "sales", resource: RESOURCE }),
    });
    const body = await answer.json();
    if (!body.access_token) throw new Error(JSON.stringify(body));
    return body.access_token;
  };
  await it.rotate();
  return it;
}

async function oidcProvider(url, kid) {
  const { privateKey } = await generateKeyPair("ES256", { extractable: true });
  const provider = new Provider(url, {
    clients: [
      {
        client_id: "client",
        client_secret: "secret",
        grant_types: ["client_credentials"],
        id_token_signed_response_alg: "ES256", // of all its keys
        redirect_uris: [],
        response_types: [],
      },
    ],
    jwks: { keys: [{ ...(await exportJWK(privateKey)), kid, alg: "ES256", use: "sig" }] },
    extraTokenClaims: () => ({ tenant: "of oidc-provider" }),
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: () => ({
          scope: "sales",
          audience: "larder",
          accessTokenFormat: "jwt",
          accessTokenTTL: 600,
          jwt: { sign: { alg: "ES256" } },
        }),
      },
    },
  });
  return provider.callback();
}

async function mockServer(url, kid) {
  const { issuer, service } = new OAuth2Server();
  issuer.url = url;
  await issuer.keys.generate("RS256", { kid });
  service.on("beforeTokenSigning", (token) => Object.assign(token.payload, { aud: "larder", tenant: "of oauth2-mock-server" }));
  return service.requestHandler;
}

const issuers = {
  "oidc-provider": await issuer(oidcProvider, "/jwks", "/token"),
  "oauth2-mock-server": await issuer(mockServer, "/jwks", "/token"),
};
const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
say(Object.fromEntries(Object.entries(issuers).map(([name, { url, jwks }]) => [name, { url, jwks }])));
for await (const line of readline.createInterface({ input: process.stdin })) {
  const [what, name] = line.split(" ");
  const value = issuers[name][what];
  say(typeof value === "function" ? await value() : value);
}
process.exit();
