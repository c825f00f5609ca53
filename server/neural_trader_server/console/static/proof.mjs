/**
 * What a browser checks of the audit log by itself: leaf, inclusion proof (RFC 6962, section 2.1)
 * and checkpoint (C2SP signed-note with Ed25519), with WebCrypto only and no word of the server's.
 */

export class ProofError extends Error {}

const utf8 = new TextEncoder();

function concatenated(...parts) {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

async function sha256(...parts) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", concatenated(...parts)));
}

function same(left, right) {
  return left.length === right.length && left.every((byte, at) => byte === right[at]);
}

/** Bytes of a standard base64 text; ProofError where it is none. */
export function fromBase64(text) {
  let binary;
  try {
    binary = atob(text);
  } catch {
    throw new ProofError("not base64: " + text.slice(0, 40));
  }
  const bytes = Uint8Array.from(binary, (letter) => letter.charCodeAt(0));
  if (btoa(binary) !== text) throw new ProofError("base64 that is not canonical");
  return bytes;
}

/** The hash of one entry's bytes: SHA-256(0x00 || entry). */
export const leafHash = (entry) => sha256(Uint8Array.of(0), entry);

/** The hash over two subtrees: SHA-256(0x01 || left || right). */
export const nodeHash = (left, right) => sha256(Uint8Array.of(1), left, right);

/**
 * The root that an inclusion proof leads to (RFC 9162, section 2.1.3.2).
 * Takes seq from 0 and the tree's size as safe integers; the path goes from leaf to root.
 */
export async function rootOfInclusion(leaf, seq, size, path) {
  if (!Number.isSafeInteger(seq) || !Number.isSafeInteger(size) || seq < 0 || seq >= size) {
    throw new ProofError(`entry ${seq} is not in a tree of ${size}`);
  }
  // BigInt: shifts of plain numbers wrap at 32 bits.
  let node = BigInt(seq);
  let last = BigInt(size - 1);
  let root = leaf;
  for (const sibling of path) {
    if (sibling.length !== 32) throw new ProofError("a hash of the path is not 32 bytes long");
    if (last === 0n) throw new ProofError("the path is longer than the tree is high");
    if (node & 1n || node === last) {
      root = await nodeHash(sibling, root);
      while (!(node & 1n) && node !== 0n) {
        node >>= 1n;
        last >>= 1n;
      }
    } else {
      root = await nodeHash(root, sibling);
    }
    node >>= 1n;
    last >>= 1n;
  }
  if (last !== 0n) throw new ProofError("the path ends before the root");
  return root;
}

/** A pinned key `name+hash+base64(0x01 || public key)`; ProofError unless its hash fits. */
export async function readVerifier(vkey) {
  const match = /^([^\s+]+)\+([0-9a-f]{8})\+(\S+)$/.exec(vkey.trim());
  if (!match) throw new ProofError("a verifier key reads NAME+HASH+KEY");
  const [, name, hash, encoded] = match;
  const key = fromBase64(encoded);
  if (key.length !== 33 || key[0] !== 1) throw new ProofError("the key is not Ed25519");
  const id = (await sha256(utf8.encode(name + "\n"), key)).slice(0, 4);
  const shown = Array.from(id, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (shown !== hash) throw new ProofError("the key's hash does not fit its name and bytes");
  const handle = await crypto.subtle.importKey("raw", key.slice(1), "Ed25519", false, ["verify"]);
  return { name, id, handle };
}

/** The text of a note that the pinned key signed; others' signatures are passed over. */
export async function openNote(note, verifier) {
  const split = note.lastIndexOf("\n\n");
  if (split < 0 || !note.endsWith("\n")) throw new ProofError("not a signed note");
  const text = note.slice(0, split + 1);
  for (const line of note.slice(split + 2, -1).split("\n")) {
    const match = /^\u2014 (\S+) (\S+)$/.exec(line);
    if (!match) throw new ProofError("a signature line is malformed");
    const signature = fromBase64(match[2]);
    if (match[1] !== verifier.name || !same(signature.slice(0, 4), verifier.id)) continue;
    if (await crypto.subtle.verify("Ed25519", verifier.handle, signature.slice(4), utf8.encode(text))) {
      return text;
    }
    throw new ProofError("the pinned key's signature does not hold");
  }
  throw new ProofError("the pinned key has not signed this");
}

/** The checkpoint {origin, size, root} under a pinned key. */
export async function openCheckpoint(note, verifier) {
  const [origin, size, root] = (await openNote(note, verifier)).split("\n");
  if (!origin || !/^(0|[1-9][0-9]*)$/.test(size ?? "")) throw new ProofError("not a checkpoint");
  const bytes = fromBase64(root ?? "");
  if (bytes.length !== 32) throw new ProofError("the root is not 32 bytes long");
  if (!Number.isSafeInteger(Number(size))) throw new ProofError("the size is out of range");
  return { origin, size: Number(size), root: bytes };
}

/** Throws ProofError unless the entry stands at seq under the checkpoint that the pinned key signed. */
export async function verifyEntry({ entry, seq, path, note, verifier }) {
  const checkpoint = await openCheckpoint(note, verifier);
  const root = await rootOfInclusion(await leafHash(entry), seq, checkpoint.size, path);
  if (!same(root, checkpoint.root)) throw new ProofError("the entry is not under the signed root");
  return checkpoint;
}
