/**
 * What this browser knows of the audit log: the key that it trusts, the checkpoint that it saw last, and what
 * it ever caught the log at. Kept in localStorage, so that a server cannot take it back.
 *
 * Every check is a step: {name, state, said, expected, found}. State is "good" only where this browser computed
 * it, "bad" where that failed, "open" where nothing was computed.
 */

import { ProofError, fromBase64, leafHash, openCheckpoint, openCosignature, readVerifier, rootOfInclusion, same, toHex, verifyConsistency } from "./proof.mjs";

const KEPT = "neural-trader-audit-log";
const AT_ONCE = 100;

/** {pin, key, keyTime, seen: {origin, size, root, note, time}, witness, caught: {what, time, before, after}}. */
export function known() {
  try {
    return JSON.parse(localStorage.getItem(KEPT) ?? "{}");
  } catch {
    return {};
  }
}

function keep(change) {
  localStorage.setItem(KEPT, JSON.stringify({ ...known(), ...change }));
}

/** Trusts this key and no other from now on; ProofError where it is none. Nothing takes the pin away. */
export async function pin(vkey) {
  const verifier = await readVerifier(vkey);
  keep({ pin: vkey.trim() });
  return verifier;
}

/** Forgets all that this browser ever saw of the log; the next checkpoint is believed as the first one was. */
export const forget = () => localStorage.removeItem(KEPT);

const step = (name, state, said, more = {}) => ({ name, state, said, expected: null, found: null, ...more });

async function tried(name, work) {
  try {
    return [step(name, "good", await work()), true];
  } catch (error) {
    if (!(error instanceof ProofError)) throw error;
    return [step(name, "bad", error.message, { expected: error.expected, found: error.found }), false];
  }
}

/**
 * The newest checkpoint, checked: {steps, checkpoint, verifier, vkey, witness}; `checkpoint` is null unless every
 * step up to it held. What it shows of a shrunk or forked log is kept, and said from then on, whatever comes next.
 */
export async function checkHead(api) {
  const before = known();
  const head = await api.get("/audit/head", { seen: before.seen?.size ?? 0 });
  const steps = [];
  const done = (checkpoint, verifier) => ({ steps, checkpoint, verifier, vkey: head.vkey, caught: known().caught ?? null });
  const trusted = before.pin ?? before.key ?? head.vkey;
  let verifier = null;

  const [keyed, isKey] = await tried("Key", async () => {
    verifier = await readVerifier(trusted);
    if (head.vkey !== trusted) {
      throw new ProofError(`the server shows another key than the one that ${before.pin ? "you pinned" : "this browser saw first"}`, trusted, head.vkey);
    }
    return before.pin ? "the one that you pinned" : before.key ? `the one that this browser saw first, on ${day(before.keyTime)}` : "seen by this browser for the first time";
  });
  // Taken at its word, a key proves nothing of itself: only a pin is a person's own knowledge.
  steps.push(isKey && !before.pin ? { ...keyed, state: "open" } : keyed);
  if (!isKey) return done(null, verifier);

  let checkpoint = null;
  const [signed, isSigned] = await tried("Checkpoint", async () => {
    checkpoint = await openCheckpoint(head.note, verifier);
    return `${checkpoint.size} entries under the root ${toHex(checkpoint.root).slice(0, 16)}…, signed by this key`;
  });
  steps.push(signed);
  if (!isSigned) return done(null, verifier);

  const [grown, hasGrown] = await grewOut(before.seen, checkpoint, head);
  steps.push(grown);
  if (!hasGrown) {
    if (!known().caught) keep({ caught: { what: grown.said, time: new Date().toISOString(), before: before.seen.note, after: head.note } });
    return done(null, verifier);
  }
  const latest = known().seen;  // another window may have seen more in the meantime
  if (!latest || latest.size <= checkpoint.size) {
    keep({ seen: { origin: checkpoint.origin, size: checkpoint.size, root: toHex(checkpoint.root), note: head.note, time: new Date().toISOString() } });
  }
  if (!before.pin && !before.key) keep({ key: head.vkey, keyTime: new Date().toISOString() });
  steps.push(await witnessed(head.witness, checkpoint, verifier));
  return done(checkpoint, verifier);
}

async function grewOut(seen, checkpoint, head) {
  if (!seen) return [step("Growth", "open", "this browser has seen no earlier checkpoint; from now on it remembers"), true];
  return tried("Growth", async () => {
    if (seen.origin !== checkpoint.origin) throw new ProofError("this is another log", seen.origin, checkpoint.origin);
    if (checkpoint.size < seen.size) throw new ProofError(`the log shrank: this browser has seen ${seen.size} signed entries, and is shown ${checkpoint.size}`);
    if (seen.size === 0) return "the log was empty when this browser saw it last";
    const root = bytesOf(seen.root);
    try {
      await verifyConsistency(seen.size, checkpoint.size, root, checkpoint.root, (head.growth ?? []).map(fromBase64));
    } catch (error) {
      if (!(error instanceof ProofError)) throw error;
      throw new ProofError(`the log forked, or the proof was altered: it is not shown to contain the ${seen.size} entries that this browser saw on ${day(seen.time)} (${error.message})`, error.expected, error.found);
    }
    return `it contains the ${seen.size} entries that this browser saw on ${day(seen.time)}`;
  });
}

async function witnessed(witness, checkpoint, verifier) {
  if (!witness) return step("Witness", "open", "this desk has none: nobody else remembers this log");
  if (witness.refused !== null) return step("Witness", "bad", `it refused this log: ${witness.refused}`);
  if (!witness.note) return step("Witness", "open", "it has not cosigned yet");
  const { witness: before } = known();
  return (await tried("Witness", async () => {
    const key = await readVerifier(witness.vkey, 4);
    if (before && before !== witness.vkey) throw new ProofError("the server names another witness than before", before, witness.vkey);
    const cosigned = await openCheckpoint(witness.note, verifier);
    const time = await openCosignature(witness.note, key);
    if (time === null) throw new ProofError("the checkpoint bears no cosignature of the witness");
    if (cosigned.size > 0) await verifyConsistency(cosigned.size, checkpoint.size, cosigned.root, checkpoint.root, (witness.path ?? []).map(fromBase64));
    keep({ witness: witness.vkey });
    return `${key.name} cosigned the first ${cosigned.size} of these entries on ${day(time * 1000)}`;
  }))[0];
}

/**
 * Checks one entry as the server sent it under a checkpoint that was checked: {steps, text, ok}; `text` is the
 * entry's own bytes, which is what a page shows.
 */
export async function checkEntry(sent, checkpoint) {
  if (sent.entry === null) {
    const steps = [step("Bytes", "open", `not here to be checked: ${sent.absent}`)];
    steps.push((await tried("Place", () => placed(bytesOf(sent.leaf_hash), sent, checkpoint)))[0]);
    return { steps, text: null, ok: false };
  }
  const steps = [];
  let text = null;
  let leaf = null;
  const [hashed, isHash] = await tried("Leaf", async () => {
    const entry = fromBase64(sent.entry);
    text = new TextDecoder().decode(entry);
    leaf = await leafHash(entry);
    if (toHex(leaf) !== sent.leaf_hash) throw new ProofError(`the hash of the entry's ${entry.length} bytes is not the one that the log keeps`, sent.leaf_hash, toHex(leaf));
    return `SHA-256 over the entry's ${entry.length} bytes: ${toHex(leaf).slice(0, 16)}…`;
  });
  steps.push(hashed);
  if (leaf) steps.push((await tried("Place", () => placed(leaf, sent, checkpoint)))[0]);
  steps.push((await tried("Number", () => {
    let said;
    try {
      said = JSON.parse(text);
    } catch {
      throw new ProofError("the bytes are not JSON");
    }
    if (said.seq !== sent.seq || said.origin !== checkpoint.origin) {
      throw new ProofError("the entry names another place", `${sent.seq} of ${checkpoint.origin}`, `${said.seq} of ${said.origin}`);
    }
    return `the entry calls itself number ${said.seq} of ${said.origin}`;
  }))[0]);
  return { steps, text, ok: isHash && steps.every((each) => each.state === "good") };
}

async function placed(leaf, sent, checkpoint) {
  const root = await rootOfInclusion(leaf, sent.seq, checkpoint.size, sent.path.map(fromBase64));
  if (!same(root, checkpoint.root)) throw new ProofError("the path does not lead to the signed root", toHex(checkpoint.root), toHex(root));
  return `${sent.path.length} hashes lead from entry ${sent.seq} to the signed root of ${checkpoint.size}`;
}

/** What the server sends of one entry. */
export async function fetchEntry(api, seq, checkpoint) {
  const { entries } = await api.get("/audit/proofs", { start: seq, end: seq + 1, size: checkpoint.size });
  const sent = entries[0];
  if (sent?.seq !== seq) throw new ProofError(`the server did not send entry ${seq}`);
  return sent;
}

/**
 * Checks the newest entries one by one: {proven, absent, failed: [{seq, step}]}. `tell(done, total)` hears how far
 * it is; `goesOn()` is asked between two answers of the server.
 */
export async function checkNewest(api, count, checkpoint, tell, goesOn) {
  const found = { proven: 0, absent: 0, failed: [] };
  const start = Math.max(0, checkpoint.size - count);
  let next = start;
  while (next < checkpoint.size && goesOn()) {
    const began = next;
    const { entries } = await api.get("/audit/proofs", { start: next, end: Math.min(next + AT_ONCE, checkpoint.size), size: checkpoint.size });
    for (const sent of entries) {
      if (sent.seq !== next) break;
      const { ok, text, steps } = await checkEntry(sent, checkpoint);
      const bad = steps.find((each) => each.state === "bad");
      if (ok) found.proven += 1;
      else if (bad || text !== null) found.failed.push({ seq: next, step: bad });
      else found.absent += 1;
      next += 1;
    }
    if (next === began) {
      found.failed.push({ seq: next, step: step("Entry", "bad", "the server did not send it") });
      break;
    }
    tell(next - start, checkpoint.size - start);
  }
  return found;
}

const bytesOf = (hex) => Uint8Array.from(hex.match(/../g) ?? [], (each) => parseInt(each, 16));
const day = (time) => new Date(time).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
