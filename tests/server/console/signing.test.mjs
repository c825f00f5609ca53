// What opens an approver's key and makes what it signs, on published vectors: RFC 7914, 8439 and 8785.
import assert from "node:assert/strict";
import { test } from "node:test";

const root = new URL("../../../server/neural_trader_server/console/static/", import.meta.url);
const { hexOf, isLocked, nameIn, openKey, openSealed, scrypt } = await import(new URL("unlocking.mjs", root));
const { canonical } = await import(new URL("canonical.mjs", root));
const { approvalBytes, checked, hashIntent } = await import(new URL("signing.mjs", root));

const utf8 = new TextEncoder();
const bytes = (hex) => Uint8Array.from(hex.replace(/\s/g, "").match(/../g) ?? [], (pair) => parseInt(pair, 16));

test("scrypt gives RFC 7914's outputs", async () => {
  assert.equal(hexOf(await scrypt(utf8.encode("password"), utf8.encode("NaCl"), 1024, 8, 16, 64)),
    "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b3731622eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640");
  assert.equal(hexOf(await scrypt(utf8.encode("pleaseletmein"), utf8.encode("SodiumChloride"), 16384, 8, 1, 64)),
    "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887");
});

test("ChaCha20-Poly1305 opens RFC 8439's message, and nothing that was altered", () => {
  const key = bytes("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f");
  const nonce = bytes("070000004041424344454647");
  const header = bytes("50515253c0c1c2c3c4c5c6c7");
  const sealed = bytes(`d31a8d34648e60db7b86afbc53ef7ec2 a4aded51296e08fea9e2b5a736ee62d6 3dbea45e8ca9671282fafb69da92728b
    1a71de0a9e060b2905d6a5b67ecd3b36 92ddbd7f2d778b8c9803aee328091b58 fab324e4fad675945585808b4831d7bc 3ff4def08e4b7a9de576d26586cec64b 6116
    1ae10b594f09e26a7e902ecbd0600691`);
  assert.match(new TextDecoder().decode(openSealed(key, nonce, sealed, header)), /^Ladies and Gentlemen of the class of '99/);
  for (const at of [0, 60, sealed.length - 1]) {
    const altered = sealed.slice();
    altered[at] ^= 1;
    assert.equal(openSealed(key, nonce, altered, header), null);
  }
  assert.equal(openSealed(key, nonce, sealed, header.subarray(1)), null);
  assert.equal(openSealed(key, nonce, sealed.subarray(0, 10), header), null);
});

test("canonical JSON sorts, escapes and refuses as the desk does", () => {
  assert.equal(canonical({ b: [1, null, true], a: "\u20ac$\u000f\nA'\"\\", "": {} }), '{"":{},"a":"€$\\u000f\\nA\'\\"\\\\","b":[1,null,true]}');
  for (const wrong of [1.5, NaN, 2 ** 53, undefined, { ä: 1 }, "\ud800"]) assert.throws(() => canonical(wrong), TypeError);
});

test("what is no key file of ours does not open, and its words say so", async () => {
  assert.equal(isLocked("PRIVATE+KEY+a+00000000+AA=="), false);
  assert.equal(nameIn("PRIVATE+KEY+a/b+00000000+AA=="), "a/b");
  for (const wrong of ["", "x", "PRIVATE+KEY+a+00000000+AA==", '{"format":"neural-trader-locked-key"}', "x".repeat(70_000)]) {
    await assert.rejects(openKey(wrong, "passphrase"), { code: "invalid_key" });
  }
});

const intent = { symbol: "AAPL", side: "buy", quantity: "25", type: "market", limit_price: null, reason: "why" };
const shown = { preview_id: "pv_1", principal: "owner", intent, price: "430.47", notional: "10761.75" };
const NOW = Date.parse("2026-11-23T12:00:00Z");

async function drafted(changes = {}, order = intent) {
  const approval = {
    preview_id: "pv_1", intent_hash: await hashIntent(order), principal: "owner", policy_digest: "a".repeat(64), price_low: "408.94",
    price_high: "452", expires_at: "2026-11-23T12:15:00Z", nonce: "b".repeat(32), approver: "key", signature: "0".repeat(128), ...changes,
  };
  return { intent: order, notional: "10761.75", approval };
}

test("a draft for exactly what is shown passes, and one that differs in anything does not", async () => {
  assert.equal((await checked(await drafted(), shown, NOW)).intent_hash, await hashIntent(intent));
  const wrong = [
    drafted({}, { ...intent, quantity: "2500" }), drafted({ intent_hash: "c".repeat(64) }), drafted({ preview_id: "pv_2" }),
    drafted({ principal: "somebody" }), drafted({ price_high: "4300" }), drafted({ price_low: "0" }), drafted({ price_low: "431" }),
    drafted({ price_high: "1e9" }), drafted({ expires_at: "2026-11-24T12:15:00Z" }), drafted({ expires_at: "never" }),
    drafted({ nonce: "" }), drafted({ policy_digest: "" }), drafted({ more: 1 }), Promise.resolve({}), Promise.resolve(null),
  ];
  for (const each of wrong) await assert.rejects(async () => checked(await each, shown, NOW), { code: "draft_altered" });
  await assert.rejects(async () => checked({ ...(await drafted()), notional: "1" }, shown, NOW), { code: "draft_altered" });
});

test("what is signed is every field but the signature, under its domain", async () => {
  const { approval } = await drafted();
  const text = new TextDecoder().decode(approvalBytes(approval));
  assert.ok(text.startsWith('neural-trader/approval/v2\n{"approver":"key","expires_at":"2026-11-23T12:15:00Z","intent_hash":"'));
  assert.ok(!text.includes("signature"));
});
