/** An order in words and in full, as people decide by it. */

import { badge, decimal, facts, h, visible } from "./dom.mjs";

const TERMS = [
  ["limit_price", "limit"], ["stop_price", "stop"], ["trail_price", "trail USD"], ["trail_percent", "trail %"],
  ["take_profit", "take profit"], ["stop_loss", "stop loss"],
];
const KINDS = {
  filled: "good", accepted: "quiet", submitted: "quiet", partially_filled: "warn", approved: "good", awaiting_approval: "warn",
  denied: "bad", rejected: "bad", unknown: "bad", expired: "quiet", canceled: "quiet", replaced: "quiet",
};

/** The type with the prices that belong to it: all that the venue will be told. */
export function terms(intent) {
  const given = TERMS.filter(([name]) => intent[name] !== null && intent[name] !== undefined).map(([name, word]) => `${word} ${decimal(intent[name])}`);
  if (intent.replaces) given.push(`replaces ${visible(intent.replaces)}`);
  if (intent.time_in_force !== "day") given.push(visible(intent.time_in_force));
  return [visible(intent.type), ...given].join(", ");
}

/** Such as BUY 25 AAPL. */
export const headline = (intent) => `${visible(intent.side).toUpperCase()} ${decimal(intent.quantity)} ${visible(intent.symbol)}`;

export const stateBadge = (state) => badge(visible(state).replace(/_/g, " "), KINDS[state] ?? "quiet");

/** Every field of an intent, whatever its name: what is signed is what is shown. */
export function whole(intent) {
  return facts(Object.entries(intent).filter(([, value]) => value !== null).map(([name, value]) => [name.replace(/_/g, " "), String(value)]));
}

/** The rules that decided, each with its words. */
export function ruleList(reasons) {
  return h("ul", { class: "rules" }, reasons.map((each) => h("li", {}, h("code", {}, visible(each.rule)), " ", visible(each.message))));
}

/** Minutes and seconds that are left. */
export function left(ms) {
  if (ms <= 0) return "expired";
  const seconds = Math.floor(ms / 1000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}
