/**
 * An approver's key file, opened in the browser: the plain form (that of Go's sumdb/note) and the locked one
 * (scrypt, RFC 7914; ChaCha20-Poly1305, RFC 8439), which WebCrypto does not have. What it gives back is a key
 * that signs and cannot be read. Nothing here speaks to a server.
 */

import { canonical } from "./canonical.mjs";
import { fromBase64 } from "./proof.mjs";

export class KeyError extends Error {
  constructor(code, what, nextStep) {
    super(`${code}: ${what}; ${nextStep}`);
    Object.assign(this, { code, what, nextStep });
  }
}

const FIELDS = ["format", "v", "label", "kdf", "cost", "salt", "cipher", "nonce", "ciphertext"];
const PLAIN = /^PRIVATE\+KEY\+([^\s+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]+={0,2})$/;
/** Before the 32 bytes of an Ed25519 seed in PKCS #8 (RFC 8410). */
const PKCS8 = Uint8Array.of(0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20);
const utf8 = new TextEncoder();

/** Whether a key file needs a passphrase. */
export const isLocked = (text) => text.startsWith('{"format":"neural-trader-locked-key"');

/** A key file's key: {name, id, sign(bytes)}; KeyError where it does not open. */
export async function openKey(text, passphrase) {
  if (text.length > 64 * 1024) throw malformed();
  const plain = isLocked(text) ? await unlock(text, passphrase) : text;
  const match = PLAIN.exec(plain.trim());
  if (!match) throw malformed();
  const [, name, id, encoded] = match;
  let data;
  try {
    data = fromBase64(encoded);
  } catch {
    throw malformed();
  }
  if (data.length !== 33 || data[0] !== 1) {
    throw new KeyError("invalid_key", "this is no Ed25519 key", "choose the approver's key file (approver.key)");
  }
  const packed = new Uint8Array([...PKCS8, ...data.subarray(1)]);
  data.fill(0);
  try {
    const readable = await crypto.subtle.importKey("pkcs8", packed, "Ed25519", true, ["sign"]);
    const half = fromUrl((await crypto.subtle.exportKey("jwk", readable)).x);
    const named = new Uint8Array([...utf8.encode(name + "\n"), 1, ...half]);
    const hash = hexOf(new Uint8Array(await crypto.subtle.digest("SHA-256", named)).subarray(0, 4));
    if (hash !== id) throw malformed();
    const key = await crypto.subtle.importKey("pkcs8", packed, "Ed25519", false, ["sign"]);
    return { name, id, sign: async (bytes) => new Uint8Array(await crypto.subtle.sign("Ed25519", key, bytes)) };
  } catch (error) {
    if (error instanceof KeyError) throw error;
    throw new KeyError("no_ed25519", "this browser cannot sign with Ed25519", "use a newer one, or `neural-trader orders approve`");
  } finally {
    packed.fill(0);
  }
}

/** The verifier key's name that a key file says it belongs to, locked or not; null where it says none. */
export function nameIn(text) {
  try {
    const named = isLocked(text) ? JSON.parse(text).label : text.replace(/^PRIVATE\+KEY\+/, "");
    return String(named).split("+")[0] || null;
  } catch {
    return null;
  }
}

export async function unlock(text, passphrase) {
  let locked;
  try {
    locked = JSON.parse(text);
  } catch {
    throw malformed();
  }
  const known = Object.keys(locked).sort().join() === [...FIELDS].sort().join();
  const { cost } = locked;
  if (!known || locked.v !== 1 || locked.kdf !== "scrypt" || locked.cipher !== "chacha20-poly1305"
    || !Number.isSafeInteger(cost) || cost < 2 ** 10 || cost > 2 ** 20 || (cost & (cost - 1)) !== 0) throw malformed();
  if (!passphrase) throw new KeyError("key_locked", "this key is locked", "type its passphrase");
  const { ciphertext, ...header } = locked;
  let parts;
  try {
    parts = [header.salt, header.nonce, ciphertext].map(fromBase64);
  } catch {
    throw malformed();
  }
  const [salt, nonce, sealed] = parts;
  if (nonce.length !== 12) throw malformed();
  // The same characters typed on another keyboard must be the same passphrase.
  const key = await scrypt(utf8.encode(passphrase.normalize("NFC")), salt, cost, 8, 1, 32);
  const opened = openSealed(key, nonce, sealed, utf8.encode(canonical(header)));
  key.fill(0);
  if (opened === null) {
    throw new KeyError("wrong_passphrase", "the passphrase does not open this key, or its file was altered", "try again");
  }
  const shown = new TextDecoder().decode(opened);
  opened.fill(0);
  return shown;
}

async function pbkdf2(password, salt, length) {
  const key = await crypto.subtle.importKey("raw", password, "PBKDF2", false, ["deriveBits"]);
  return new Uint8Array(await crypto.subtle.deriveBits({ name: "PBKDF2", hash: "SHA-256", salt, iterations: 1 }, key, length * 8));
}

/** scrypt (RFC 7914); gives the page a breath now and then. */
export async function scrypt(password, salt, n, r, p, length) {
  const bytes = await pbkdf2(password, salt, p * 128 * r);
  const words = new Uint32Array(bytes.buffer, 0, bytes.length / 4);  // every browser's machine is little-endian
  const blockWords = 32 * r;
  const table = new Uint32Array(n * blockWords);
  const spare = new Uint32Array(blockWords);
  for (let lane = 0; lane < p; lane++) {
    const block = words.subarray(lane * blockWords, (lane + 1) * blockWords);
    for (let at = 0; at < n; at++) {
      table.set(block, at * blockWords);
      mix(block, spare, r);
      if ((at & 0x3fff) === 0x3fff) await breath();
    }
    for (let round = 0; round < n; round++) {
      const at = (block[blockWords - 16] & (n - 1)) * blockWords;
      for (let word = 0; word < blockWords; word++) block[word] ^= table[at + word];
      mix(block, spare, r);
      if ((round & 0x3fff) === 0x3fff) await breath();
    }
  }
  table.fill(0);
  return pbkdf2(password, bytes, length);
}

const breath = () => new Promise((go) => setTimeout(go, 0));

/** scryptBlockMix: Salsa20/8 over 2r blocks of 16 words; even ones first. */
function mix(block, spare, r) {
  const last = new Uint32Array(block.subarray(block.length - 16));
  for (let part = 0; part < 2 * r; part++) {
    salsa8(last, block, part * 16);
    spare.set(last, ((part >> 1) + (part & 1 ? r : 0)) * 16);
  }
  block.set(spare);
}

function salsa8(x, block, offset) {
  for (let i = 0; i < 16; i++) x[i] ^= block[offset + i];
  let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = x;
  let t;
  for (let round = 0; round < 4; round++) {
    t = a + m | 0; e ^= t << 7 | t >>> 25; t = e + a | 0; i ^= t << 9 | t >>> 23; t = i + e | 0; m ^= t << 13 | t >>> 19; t = m + i | 0; a ^= t << 18 | t >>> 14;
    t = f + b | 0; j ^= t << 7 | t >>> 25; t = j + f | 0; n ^= t << 9 | t >>> 23; t = n + j | 0; b ^= t << 13 | t >>> 19; t = b + n | 0; f ^= t << 18 | t >>> 14;
    t = k + g | 0; o ^= t << 7 | t >>> 25; t = o + k | 0; c ^= t << 9 | t >>> 23; t = c + o | 0; g ^= t << 13 | t >>> 19; t = g + c | 0; k ^= t << 18 | t >>> 14;
    t = p + l | 0; d ^= t << 7 | t >>> 25; t = d + p | 0; h ^= t << 9 | t >>> 23; t = h + d | 0; l ^= t << 13 | t >>> 19; t = l + h | 0; p ^= t << 18 | t >>> 14;
    t = a + d | 0; b ^= t << 7 | t >>> 25; t = b + a | 0; c ^= t << 9 | t >>> 23; t = c + b | 0; d ^= t << 13 | t >>> 19; t = d + c | 0; a ^= t << 18 | t >>> 14;
    t = f + e | 0; g ^= t << 7 | t >>> 25; t = g + f | 0; h ^= t << 9 | t >>> 23; t = h + g | 0; e ^= t << 13 | t >>> 19; t = e + h | 0; f ^= t << 18 | t >>> 14;
    t = k + j | 0; l ^= t << 7 | t >>> 25; t = l + k | 0; i ^= t << 9 | t >>> 23; t = i + l | 0; j ^= t << 13 | t >>> 19; t = j + i | 0; k ^= t << 18 | t >>> 14;
    t = p + o | 0; m ^= t << 7 | t >>> 25; t = m + p | 0; n ^= t << 9 | t >>> 23; t = n + m | 0; o ^= t << 13 | t >>> 19; t = o + n | 0; p ^= t << 18 | t >>> 14;
  }
  x[0] += a; x[1] += b; x[2] += c; x[3] += d; x[4] += e; x[5] += f; x[6] += g; x[7] += h;
  x[8] += i; x[9] += j; x[10] += k; x[11] += l; x[12] += m; x[13] += n; x[14] += o; x[15] += p;
}

function chachaBlock(key, counter, nonce) {
  const view = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const state = new Uint32Array(16);
  state.set([0x61707865, 0x3320646e, 0x79622d32, 0x6b206574]);
  for (let at = 0; at < 8; at++) state[4 + at] = view(key).getUint32(4 * at, true);
  state[12] = counter;
  for (let at = 0; at < 3; at++) state[13 + at] = view(nonce).getUint32(4 * at, true);
  const x = state.slice();
  const step = (a, b, c, d) => {
    x[a] += x[b]; x[d] ^= x[a]; x[d] = x[d] << 16 | x[d] >>> 16;
    x[c] += x[d]; x[b] ^= x[c]; x[b] = x[b] << 12 | x[b] >>> 20;
    x[a] += x[b]; x[d] ^= x[a]; x[d] = x[d] << 8 | x[d] >>> 24;
    x[c] += x[d]; x[b] ^= x[c]; x[b] = x[b] << 7 | x[b] >>> 25;
  };
  for (let round = 0; round < 10; round++) {
    step(0, 4, 8, 12); step(1, 5, 9, 13); step(2, 6, 10, 14); step(3, 7, 11, 15);
    step(0, 5, 10, 15); step(1, 6, 11, 12); step(2, 7, 8, 13); step(3, 4, 9, 14);
  }
  const out = new Uint8Array(64);
  for (let at = 0; at < 16; at++) view(out).setUint32(4 * at, x[at] + state[at], true);
  return out;
}

const little = (bytes) => bytes.reduceRight((number, byte) => number << 8n | BigInt(byte), 0n);

function poly1305(key, message) {
  const prime = (1n << 130n) - 5n;
  const r = little(key.subarray(0, 16)) & 0x0ffffffc0ffffffc0ffffffc0fffffffn;
  let sum = 0n;
  for (let at = 0; at < message.length; at += 16) {
    const part = message.subarray(at, at + 16);
    sum = (sum + little(part) + (1n << BigInt(8 * part.length))) * r % prime;
  }
  let tag = sum + little(key.subarray(16, 32)) & (1n << 128n) - 1n;
  return Uint8Array.from({ length: 16 }, () => { const byte = Number(tag & 255n); tag >>= 8n; return byte; });
}

/** What ChaCha20-Poly1305 sealed; null where it or the header was altered, or the key is another. */
export function openSealed(key, nonce, sealed, header) {
  if (sealed.length < 16) return null;
  const text = sealed.subarray(0, -16);
  const padded = (bytes) => [...bytes, ...new Uint8Array((16 - bytes.length % 16) % 16)];
  const size = (length) => { const bytes = new Uint8Array(8); new DataView(bytes.buffer).setUint32(0, length, true); return bytes; };
  const mac = Uint8Array.from([...padded(header), ...padded(text), ...size(header.length), ...size(text.length)]);
  const tag = poly1305(chachaBlock(key, 0, nonce), mac);
  let difference = 0;
  sealed.subarray(-16).forEach((byte, at) => { difference |= byte ^ tag[at]; });
  if (difference) return null;
  const plain = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at += 64) {
    const stream = chachaBlock(key, 1 + at / 64, nonce);
    for (let byte = at; byte < Math.min(at + 64, text.length); byte++) plain[byte] = text[byte] ^ stream[byte - at];
  }
  return plain;
}

const malformed = () => new KeyError("invalid_key", "this is no key file of ours, or it was altered", "choose the approver's key file (approver.key)");
const fromUrl = (text) => fromBase64(text.replace(/-/g, "+").replace(/_/g, "/").padEnd(Math.ceil(text.length / 4) * 4, "="));
export const hexOf = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
