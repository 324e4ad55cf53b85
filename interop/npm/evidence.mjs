// Checks a receipt and a checkpoint with nothing but what Node brings: no library of ours, none of
// the payment SDKs'. Reads {"jwks", "receipt", "checkpoint"} and prints what they say.
import { createHash, createPublicKey, verify } from "node:crypto";
import { text } from "node:stream/consumers";

const { jwks, receipt, checkpoint } = JSON.parse(await text(process.stdin));
const json = (part) => JSON.parse(Buffer.from(part, "base64url"));
const key = (jwk) => createPublicKey({ key: jwk, format: "jwk" });

const [head, payload, signature] = receipt.split(".");
const { alg, kid, typ } = json(head);
if (alg !== "EdDSA" || typ !== "farthing-receipt+jwt") throw new Error("not a receipt");
const jwk = jwks.keys.find((jwk) => jwk.kid === kid);
const { crv, kty, x } = jwk;
const thumbprint = createHash("sha256").update(JSON.stringify({ crv, kty, x })).digest("base64url");
if (thumbprint !== kid) throw new Error("the kid is not the thumbprint");
const signed = Buffer.from(`${head}.${payload}`);
if (!verify(null, signed, key(jwk), Buffer.from(signature, "base64url"))) {
  throw new Error("the receipt does not verify");
}

const end = checkpoint.lastIndexOf("\n\n") + 1;
const body = checkpoint.slice(0, end);
const [, name, blob] = checkpoint.slice(end + 1).match(/^\u2014 (\S+) (\S+)\n$/u);
const bytes = Buffer.from(blob, "base64");
const kind = Buffer.concat([Buffer.from([1]), Buffer.from(x, "base64url")]);
const id = createHash("sha256").update(`${name}\n`).update(kind).digest().subarray(0, 4);
if (!id.equals(bytes.subarray(0, 4))) throw new Error("another key signed the checkpoint");
if (!verify(null, Buffer.from(body), key(jwk), bytes.subarray(4))) {
  throw new Error("the checkpoint does not verify");
}
const [origin, size, root] = body.split("\n");
process.stdout.write(JSON.stringify({ claims: json(payload), origin, size, root }));
