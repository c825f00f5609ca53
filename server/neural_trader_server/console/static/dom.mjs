/**
 * Elements made by hand: text is always text, so that nothing an agent or a stranger wrote becomes markup.
 *
 *   h("p", { class: "note" }, "words ", h("strong", {}, "more"))
 *
 * There is no way here to set HTML from a string, and no page sets any.
 */

/** An element with attributes (`onclick` and the like are listeners, null and false are left out) and children. */
export function h(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** The same in SVG. */
export function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((each) => each !== null && each !== undefined && each !== false));
  return element;
}

/** Puts children in the place of what an element holds. */
export function fill(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((each) => each !== null && each !== undefined && each !== false));
  return element;
}

const INVISIBLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;

/** Words of others, with what cannot be seen (and could turn a line around) written as its number. */
export function visible(text, keep = "") {
  return String(text).replace(INVISIBLE, (letter) => (keep.includes(letter) ? letter : `\\u{${letter.codePointAt(0).toString(16)}}`));
}

/** A decimal string with thousands apart, rounded half up to `places`; null keeps every digit. */
export function decimal(text, places = null) {
  if (text === null || text === undefined || text === "") return "–";
  const match = /^(-?)(\d+)(?:\.(\d+))?$/.exec(String(text));
  if (!match) return visible(text);
  let [, sign, whole, part = ""] = match;
  if (places !== null) {
    const digits = ((BigInt(whole + part.padEnd(places + 1, "0").slice(0, places + 1)) + 5n) / 10n).toString().padStart(places + 1, "0");
    [whole, part] = places ? [digits.slice(0, -places), digits.slice(-places)] : [digits, ""];
  }
  const minus = sign && /[1-9]/.test(whole + part) ? "\u2212" : "";
  return minus + whole.replace(/\B(?=(\d{3})+$)/g, ",") + (part ? "." + part : "");
}

/** US dollars from a decimal string. */
export const usd = (text) => (text === null || text === undefined || text === "" ? "–" : `${decimal(text, 2)} USD`);

/** A moment (RFC 3339) as the reader's clock says it; the exact one is its title. */
export function when(text) {
  if (!text) return h("span", {}, "–");
  const moment = new Date(text);
  const shown = moment.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
  return h("time", { datetime: text, title: text }, shown);
}

/** A word of state, in a colour that is not its only mark. Kinds: good, warn, bad, live, quiet. */
export const badge = (text, kind = "quiet") => h("span", { class: `badge ${kind}` }, text);

/** A table. Columns: {name, title, cell(row), numeric, class}; the second argument are the rows. */
export function table(columns, rows, { caption = "", empty = "None.", onopen = null, key = null } = {}) {
  if (!rows.length) return h("p", { class: "empty" }, empty);
  const head = h("tr", {}, columns.map((each) => h("th", { scope: "col", class: each.numeric ? "number" : null }, each.title)));
  const body = rows.map((row) =>
    h("tr", { "data-key": key ? key(row) : null, class: onopen ? "opens" : null },
      columns.map((each) => h("td", { class: each.numeric ? "number" : (each.class ?? null), "data-title": each.title },
        each.cell ? each.cell(row) : visible(row[each.name] ?? "–"))),
    ));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption || "table" },
    h("table", {}, caption ? h("caption", {}, caption) : null, h("thead", {}, head), h("tbody", {}, body)));
}

/** Names and what they are, side by side. */
export function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.filter(Boolean).map(([name, value]) => [
    h("dt", {}, name), h("dd", {}, value instanceof Node ? value : visible(value ?? "–")),
  ]));
}

/** A failure as every surface of ours shows one: code, what happened, next step. */
export function failure(error) {
  return h("div", { class: "failure", role: "alert" },
    h("strong", {}, visible(error.code ?? "error")), ": ", visible(error.what ?? error.message), "; ",
    h("em", {}, visible(error.nextStep ?? "try again")));
}
