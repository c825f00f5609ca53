// Published vectors: Go's sumdb/note example; the reference tree of RFC 6962 implementations (8 leaves).
import assert from "node:assert/strict";
import test from "node:test";
import * as proof from "../../../server/neural_trader_server/console/static/proof.mjs";
const VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const NOTE = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
const hex = (b) => Buffer.from(b).toString("hex");
const LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"].map((t) => Uint8Array.from(Buffer.from(t, "hex")));
const ROOT = "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328";
async function root(hs) { if (hs.length === 1) return hs[0]; let k = 1; while (k * 2 < hs.length) k *= 2; return proof.nodeHash(await root(hs.slice(0, k)), await root(hs.slice(k))); }
async function path(at, hs) { if (hs.length === 1) return []; let k = 1; while (k * 2 < hs.length) k *= 2; return at < k ? [...await path(at, hs.slice(0, k)), await root(hs.slice(k))] : [...await path(at - k, hs.slice(k)), await root(hs.slice(0, k))]; }
test("the published note opens, and no changed one", async () => {
  const v = await proof.readVerifier(VKEY);
  assert.match(await proof.openNote(NOTE, v), /^If you think/);
  await assert.rejects(proof.openNote(NOTE.replace("answer", "Answer"), v), proof.ProofError);
  await assert.rejects(proof.readVerifier(VKEY.replace("c74f20a3", "c74f20a4")), proof.ProofError);
});
test("every entry of the published tree leads to its root, and no other does", async () => {
  const hs = await Promise.all(LEAVES.map(proof.leafHash));
  assert.equal(hex(await root(hs)), ROOT);
  for (let n = 1; n <= 8; n++) for (let at = 0; at < n; at++) {
    const want = hex(await root(hs.slice(0, n))), p = await path(at, hs.slice(0, n));
    assert.equal(hex(await proof.rootOfInclusion(hs[at], at, n, p)), want);
    await assert.rejects(proof.rootOfInclusion(hs[at], at, n, [...p, hs[0]]), proof.ProofError);
    if (n > 1) { const wrong = hs[at].slice(); wrong[0] ^= 1; assert.notEqual(hex(await proof.rootOfInclusion(wrong, at, n, p)), want); }
  }
});
// (old, new, proof), published with the tree above.
const [A, B, C, D, E, F, G] = [
  "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7", "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
  "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4", "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
  "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0", "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
  "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
].map((text) => Uint8Array.from(Buffer.from(text, "hex")));
const GROWTH = [[1, 1, []], [1, 8, [A, B, C]], [6, 8, [D, E, F]], [2, 5, [B, G]]];
test("the published proofs of growth hold, and nothing near them does", async () => {
  const hs = await Promise.all(LEAVES.map(proof.leafHash));
  const at = (n) => root(hs.slice(0, n));
  const flipped = (bytes) => Uint8Array.from(bytes, (byte, place) => byte ^ (place === 31 ? 1 : 0));
  for (const [old, now, path] of GROWTH) {
    const [before, after] = [await at(old), await at(now)];
    await proof.verifyConsistency(old, now, before, after, path);
    const wrong = [[old, now, flipped(before), after, path], [old, now, before, flipped(after), path], [old, now, before, after, [...path, A]], [now, old, after, before, path.length ? path : [A]],
      ...path.map((_, place) => [old, now, before, after, path.with(place, flipped(path[place]))]), ...path.map((_, place) => [old, now, before, after, path.toSpliced(place, 1)])];
    for (const each of wrong) await assert.rejects(proof.verifyConsistency(...each), proof.ProofError);
  }
});
test("a witness's published key is read as one, and its line counts only for what it signed and when", async () => {
  assert.equal((await proof.readVerifier("remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2", 4)).name, "remora.n621.de");
  await assert.rejects(proof.readVerifier(VKEY, 4), proof.ProofError);
  const pair = await crypto.subtle.generateKey("Ed25519", true, ["sign", "verify"]);
  const key = Buffer.concat([Buffer.of(4), Buffer.from(await crypto.subtle.exportKey("raw", pair.publicKey))]);
  const id = Buffer.from(await crypto.subtle.digest("SHA-256", Buffer.concat([Buffer.from("w.example/1\n"), key]))).subarray(0, 4);
  const witness = await proof.readVerifier(`w.example/1+${hex(id)}+${key.toString("base64")}`, 4);
  const text = NOTE.slice(0, NOTE.lastIndexOf("\n\n") + 1);
  const time = Buffer.alloc(8);
  time.writeBigUInt64BE(1679315147n);
  const signature = Buffer.from(await crypto.subtle.sign("Ed25519", pair.privateKey, Buffer.from(`cosignature/v1\ntime 1679315147\n${text}`)));
  const line = (...parts) => `${NOTE}— w.example/1 ${Buffer.concat(parts).toString("base64")}\n`;
  assert.equal(await proof.openCosignature(line(id, time, signature), witness), 1679315147);
  assert.equal(await proof.openCosignature(NOTE, witness), null);
  assert.match(await proof.openNote(line(id, time, signature), await proof.readVerifier(VKEY)), /^If you think/);
  time.writeBigUInt64BE(1679315148n);
  await assert.rejects(proof.openCosignature(line(id, time, signature), witness), proof.ProofError);
});
