/**
 * What a browser checks of the audit log by itself: leaf, inclusion and consistency proof (RFC 6962,
 * section 2.1), checkpoint (C2SP signed-note with Ed25519) and cosignature (C2SP tlog-cosignature), with
 * WebCrypto only and no word of the server's.
 */

/** What does not hold; with what was expected and what was found, where these are hashes. */
export class ProofError extends Error {
  constructor(what, expected = null, found = null) {
    super(what);
    Object.assign(this, { expected, found });
  }
}

const utf8 = new TextEncoder();

/** Bytes as hex. */
export const toHex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

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

/** Whether two byte arrays are equal; of public bytes, so it need not take the same time. */
export function same(left, right) {
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

/**
 * Throws ProofError unless the tree of `size` and `root` begins with the tree of `oldSize` and `oldRoot`
 * (RFC 9162, section 2.1.4.2). Sizes are safe integers above 0; the path is the consistency proof.
 */
export async function verifyConsistency(oldSize, size, oldRoot, root, path) {
  if (!Number.isSafeInteger(oldSize) || !Number.isSafeInteger(size) || oldSize < 1 || oldSize > size) {
    throw new ProofError(`there is no consistency proof from ${oldSize} to ${size}`);
  }
  if (path.some((each) => each.length !== 32)) throw new ProofError("a hash of the path is not 32 bytes long");
  if (oldSize === size) {
    if (path.length) throw new ProofError("the path is longer than it must be");
    if (!same(oldRoot, root)) throw new ProofError(`two roots at ${size} entries`, toHex(oldRoot), toHex(root));
    return;
  }
  // The old root itself begins the path where the old tree is complete: its size a power of two.
  const steps = (BigInt(oldSize) & BigInt(oldSize - 1)) === 0n ? [oldRoot, ...path] : [...path];
  if (!steps.length) throw new ProofError("the path is empty");
  let node = BigInt(oldSize - 1);
  let last = BigInt(size - 1);
  while (node & 1n) {
    node >>= 1n;
    last >>= 1n;
  }
  let before = steps[0];
  let after = steps[0];
  for (const sibling of steps.slice(1)) {
    if (last === 0n) throw new ProofError("the path is longer than the tree is high");
    if (node & 1n || node === last) {
      before = await nodeHash(sibling, before);
      after = await nodeHash(sibling, after);
      while (!(node & 1n) && node !== 0n) {
        node >>= 1n;
        last >>= 1n;
      }
    } else {
      after = await nodeHash(after, sibling);
    }
    node >>= 1n;
    last >>= 1n;
  }
  if (last !== 0n) throw new ProofError("the path ends before the root");
  if (!same(before, oldRoot)) throw new ProofError("the path does not lead to the old root", toHex(oldRoot), toHex(before));
  if (!same(after, root)) throw new ProofError("the path does not lead to the new root", toHex(root), toHex(after));
}

/** A pinned key `name+hash+base64(type || public key)`, type 1 a log's, 4 a witness's; ProofError unless its hash fits. */
export async function readVerifier(vkey, type = 1) {
  const match = /^([^\s+]+)\+([0-9a-f]{8})\+(\S+)$/.exec(vkey.trim());
  if (!match) throw new ProofError("a verifier key reads NAME+HASH+KEY");
  const [, name, hash, encoded] = match;
  const key = fromBase64(encoded);
  if (key.length !== 33 || key[0] !== type) throw new ProofError("the key is not Ed25519 of this kind");
  const id = (await sha256(utf8.encode(name + "\n"), key)).slice(0, 4);
  if (toHex(id) !== hash) throw new ProofError("the key's hash does not fit its name and bytes");
  const handle = await crypto.subtle.importKey("raw", key.slice(1), "Ed25519", false, ["verify"]);
  return { name, id, handle, fingerprint: toHex(await sha256(key)) };
}

/** The text of a note that the pinned key signed; others' signatures are passed over. */
export async function openNote(note, verifier) {
  const { text, signatures } = readNote(note);
  const own = signatures.find(({ name, id }) => name === verifier.name && same(id, verifier.id));
  if (!own) throw new ProofError("the pinned key has not signed this");
  if (await crypto.subtle.verify("Ed25519", verifier.handle, own.bytes, utf8.encode(text))) return text;
  throw new ProofError("the pinned key's signature does not hold");
}

/** When a witness cosigned a note, in seconds since 1970; null where it did not; ProofError where it does not hold. */
export async function openCosignature(note, witness) {
  const { text, signatures } = readNote(note);
  const own = signatures.find(({ name, id }) => name === witness.name && same(id, witness.id));
  if (!own) return null;
  if (own.bytes.length !== 72) throw new ProofError("a cosignature is not 72 bytes long");
  const time = new DataView(own.bytes.buffer, own.bytes.byteOffset, 8).getBigUint64(0);
  const said = utf8.encode(`cosignature/v1\ntime ${time}\n${text}`);
  if (!(await crypto.subtle.verify("Ed25519", witness.handle, own.bytes.slice(8), said))) {
    throw new ProofError("the witness's cosignature does not hold");
  }
  return Number(time);
}

function readNote(note) {
  const split = note.lastIndexOf("\n\n");
  if (split < 0 || !note.endsWith("\n")) throw new ProofError("not a signed note");
  const text = note.slice(0, split + 1);
  const signatures = note.slice(split + 2, -1).split("\n").map((line) => {
    const match = /^\u2014 (\S+) (\S+)$/.exec(line);
    if (!match) throw new ProofError("a signature line is malformed");
    const signature = fromBase64(match[2]);
    return { name: match[1], id: signature.slice(0, 4), bytes: signature.slice(4) };
  });
  return { text, signatures };
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
  if (!same(root, checkpoint.root)) throw new ProofError("the entry is not under the signed root", toHex(checkpoint.root), toHex(root));
  return checkpoint;
}
