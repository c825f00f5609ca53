/**
 * What an approval's signature is over, made from the order that the page shows.
 *
 * The server drafts an approval; here it is compared with what the person sees, and the hash of the order is
 * computed anew. A draft that differs in anything is not signed.
 */

import { canonical } from "./canonical.mjs";
import { hexOf } from "./unlocking.mjs";

export class DraftError extends Error {
  constructor(what) {
    super(`draft_altered: ${what}; do not sign it, reload the page`);
    Object.assign(this, { code: "draft_altered", what, nextStep: "do not sign it, reload the page; if it stays, look at the server" });
  }
}

const DOMAIN = "neural-trader/approval/v2\n";
const FIELDS = ["preview_id", "intent_hash", "principal", "policy_digest", "price_low", "price_high", "expires_at", "nonce", "approver", "signature"];
const DECIMAL = /^(0|[1-9][0-9]*)(\.[0-9]+)?$/;
const LONGEST_MS = 20 * 60 * 1000;  // the desk's 15 minutes, and clocks that differ
const utf8 = new TextEncoder();

/** The SHA-256 of an order's canonical JSON, in hex: what approvals sign. */
export async function hashIntent(intent) {
  return hexOf(new Uint8Array(await crypto.subtle.digest("SHA-256", utf8.encode(canonical(intent)))));
}

/** Both as whole numbers of the same smallest part, so that money is compared exactly. */
function exact(...texts) {
  if (!texts.every((text) => typeof text === "string" && DECIMAL.test(text) && text.length < 40)) {
    throw new DraftError("an amount is no decimal number");
  }
  const places = Math.max(...texts.map((text) => (text.split(".")[1] ?? "").length));
  return texts.map((text) => {
    const [whole, part = ""] = text.split(".");
    return BigInt(whole + part.padEnd(places, "0"));
  });
}

/**
 * The approval of the order that is shown, still without a signature; DraftError where the draft is for anything else.
 * `shown` is the row of the inbox as the page displays it; `now` is the server's time in milliseconds.
 */
export async function checked(draft, shown, now) {
  const given = draft?.approval ?? {};
  if (Object.keys(given).sort().join() !== [...FIELDS].sort().join()) throw new DraftError("it is no approval");
  const hash = await hashIntent(shown.intent);
  if (canonical(draft.intent) !== canonical(shown.intent) || given.intent_hash !== hash) {
    throw new DraftError("it is for another order than the one shown");
  }
  if (given.preview_id !== shown.preview_id || given.principal !== shown.principal) {
    throw new DraftError("it is for another preview than the one shown");
  }
  if (!/^[0-9a-f]{64}$/.test(given.policy_digest) || !/^[0-9a-f]{16,64}$/.test(given.nonce)) {
    throw new DraftError("its policy or its nonce is malformed");
  }
  if (draft.notional !== shown.notional) throw new DraftError("its notional is not the one shown");
  const [low, high, price] = exact(given.price_low, given.price_high, shown.price);
  if (!(low <= price && price <= high) || low * 100n < price * 94n || high * 100n > price * 106n) {
    throw new DraftError("its price band does not lie around the price shown");
  }
  const left = Date.parse(given.expires_at) - now;
  if (!(left > 0 && left <= LONGEST_MS)) throw new DraftError("it would hold for too long");
  return { ...given, intent_hash: hash };
}

/** The bytes that a signature of an approval covers: all fields but itself. */
export function approvalBytes(approval) {
  const { signature: _, ...signed } = approval;
  return utf8.encode(DOMAIN + canonical(signed));
}

/** The approval under the key's name and signature. */
export async function signedBy(key, approval) {
  const named = { ...approval, approver: key.name };
  return { ...named, signature: hexOf(await key.sign(approvalBytes(named))) };
}
