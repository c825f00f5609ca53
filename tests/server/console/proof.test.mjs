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
