// Tokens of npm's jose: prints a list of { alg, keys, secret, token }, one for each algorithm in the arguments.
import { SignJWT, exportJWK, generateKeyPair } from "jose";

const secret = "a-secret-that-is-long-enough-for-a-hash-of-sixty-four-bytes-and-more";

const made = process.argv.slice(2).map(async (alg) => {
  const isSymmetric = alg.startsWith("HS");
  const pair = isSymmetric ? undefined : await generateKeyPair(alg === "Ed25519" ? "EdDSA" : alg, { crv: "Ed25519" });
  const key = pair ? pair.privateKey : new TextEncoder().encode(secret);
  const token = await new SignJWT({ tenant: `npm ${alg}` })
    .setProtectedHeader({ alg, kid: "1", typ: "JWT" })
    .setIssuer(`https://npm.example/${alg}`)
    .setAudience("larder")
    .setIssuedAt()
    .setExpirationTime("10m")
    .sign(key);
  const keys = pair ? [{ ...(await exportJWK(pair.publicKey)), kid: "1" }] : undefined;
  return { alg, keys, secret: isSymmetric ? secret : undefined, token };
});
console.log(JSON.stringify(await Promise.all(made)));
