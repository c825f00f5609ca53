/** What agents learned: found as an agent would find it, and told with where it comes from. Nothing can be changed here. */

import { badge, decimal, facts, failure, fill, h, table, visible, when } from "../dom.mjs";
import { hasPage } from "../pages.mjs";

export const title = "Memory";

const TRUST = { verified: "good", asserted: "quiet", untrusted: "warn", quarantined: "bad" };
const TIERS = {
  verified: "the desk saw it, or a person wrote it", asserted: "an agent says so", untrusted: "from outside, or written after outside text was read",
  quarantined: "kept from every search until a person looks at it",
};
const CUT = 260;

export async function render(root, api, [id, agent]) {
  return id ? detail(root, api, id, agent) : list(root, api);
}

const trustBadge = (trust) => badge(visible(trust), TRUST[trust] ?? "quiet");
const link = (row, words) => h("a", { href: `#/memory/${encodeURIComponent(row.memory_id)}/${encodeURIComponent(row.agent)}` }, words);
const entryLink = (seq) => (seq === null ? "–" : hasPage("audit") ? h("a", { href: `#/audit/${seq}` }, `entry ${seq}`) : `entry ${seq}`);
const shortened = (text) => (text.length > CUT ? `${text.slice(0, CUT)}…` : text);
const number = (value) => value.toFixed(3);

async function list(root, api) {
  const words = h("input", { type: "search", name: "text", maxlength: "1000", placeholder: "what failed in falling markets" });
  const agent = h("select", { name: "agent" });
  const kind = h("select", { name: "kind" }, h("option", { value: "" }, "all kinds"));
  const symbol = h("input", { type: "text", name: "symbol", size: "8", maxlength: "16" });
  const moment = h("input", { type: "datetime-local", name: "as_of", step: "1" });
  const rows = h("div", {});
  let asked = 0;

  async function search(event) {
    event?.preventDefault();
    const mine = ++asked;
    const text = words.value.trim();
    try {
      const found = await api.get("/memory", {
        text, agent: agent.value, kind: kind.value, symbol: symbol.value.trim().toUpperCase(), as_of: moment.value ? `${moment.value}Z` : null,
      });
      if (mine !== asked) return;
      if (!agent.options.length) {
        agent.append(...found.agents.map((each) => h("option", { value: each }, visible(each))));
        kind.append(...found.kinds.map((each) => h("option", { value: each }, each)));
      }
      fill(rows, table([
        { title: "Known since", cell: (row) => when(row.known_time), class: "nowrap" },
        { title: "Kind", cell: (row) => visible(row.kind) },
        { title: "Trust", cell: (row) => trustBadge(row.trust) },
        { title: "About", cell: (row) => row.symbols.map((each) => visible(each)).join(" ") || "–" },
        { title: "Memory", class: "words", cell: (row) => [link(row, visible(shortened(row.text))), row.rev > 1 ? h("span", { class: "note" }, ` revision ${row.rev}`) : null] },
        ...(text ? [{ title: "Score", cell: (row) => why(row) }] : []),
      ], found.hits, { caption: text ? "The best first, trusted ones before those from outside" : "The newest first, those in quarantine too", empty: "Nothing is remembered that is like this.", key: (row) => row.memory_id }),
      found.hits.length === found.limit ? h("p", { class: "note" }, `At most ${found.limit} are shown.`) : null);
    } catch (error) {
      if (error.status !== 401 && mine === asked) fill(rows, failure(error));
    }
  }

  const form = h("form", { class: "filters", role: "search", onsubmit: search },
    h("label", {}, "Find by meaning", words), h("label", {}, "Whose", agent), h("label", {}, "Kind", kind), h("label", {}, "About", symbol),
    h("label", {}, "As known at (UTC)", moment), h("button", { class: "primary", type: "submit" }, "Search"));
  for (const each of [agent, kind, symbol, moment]) each.addEventListener("change", () => search());
  root.append(h("h1", {}, "Memory"), form, rows);
  await search();
  return {};
}

/** A score with what it is made of. */
function why({ score, parts }) {
  return h("details", { class: "why" }, h("summary", {}, h("meter", { min: "0", max: "1", value: String(score) }, number(score)), " ", number(score)),
    h("table", { class: "parts" }, h("thead", {}, h("tr", {}, ["part", "says", "weight", "adds"].map((each, at) => h("th", { scope: "col", class: at ? "number" : null }, each)))),
      h("tbody", {}, parts.map((each) => h("tr", {}, h("td", {}, visible(each.name)), [each.value, each.weight, each.value * each.weight].map((value) => h("td", { class: "number" }, number(value))))))));
}

async function detail(root, api, id, agent) {
  const told = await api.get(`/memory/${encodeURIComponent(id)}`, { agent });
  const [newest] = told.revisions;
  const forgotten = newest.state === "forgotten";
  fill(root, h("p", {}, h("a", { href: "#/memory" }, "← Memory")),
    h("div", { class: "row" }, h("h1", {}, `${visible(newest.kind)} `, h("span", { class: "mono" }, visible(id))), trustBadge(newest.trust), forgotten ? badge("forgotten", "bad") : null),
    forgotten ? h("p", { class: "warning" }, "A tombstone stands on it: no search finds it any more. The log and searches as of an earlier time still know it.") : null,
    h("div", { class: "columns" },
      h("section", { "aria-label": "Memory" },
        h("blockquote", { class: "remembered" }, visible(newest.text, "\n")),
        newest.data ? h("details", { open: true }, h("summary", {}, "Its data"), h("pre", { class: "wrapped" }, visible(JSON.stringify(newest.data, null, 2), "\n"))) : null,
        related("What it follows from", told.causes), related("What came of it", told.outcomes),
        told.revisions.length > 1 ? [h("h2", {}, "Revisions"), h("ol", { class: "story" }, told.revisions.map(revision))] : null),
      h("section", { "aria-label": "Provenance" }, h("div", { class: "card" }, h("h2", {}, "Where it comes from"), provenance(newest)))));
  return {};
}

function provenance(row) {
  return facts([
    ["trust", h("span", {}, trustBadge(row.trust), ` ${TIERS[row.trust] ?? ""}`)],
    ["source", row.source],
    row.origin ? ["imported from", row.origin] : null,
    ["whose", row.agent],
    ["happened", when(row.event_time)],
    ["known since", when(row.known_time)],
    row.expires_at ? ["expires", when(row.expires_at)] : null,
    ["about", row.symbols.join(" ") || "–"],
    row.importance === null ? null : ["importance", decimal(String(row.importance))],
    ["written by", h("span", {}, entryLink(row.audit_seq), row.audit_seq === null ? " nothing audited it" : "")],
    row.about_seq === null ? null : ["speaks of", h("span", {}, entryLink(row.about_seq))],
    ["revision", String(row.rev)],
    ["content hash", h("code", {}, visible(row.content_hash))],
    ["embedder", row.embedder],
    ["market then", row.regime === null ? "not written down" : `a regime vector of ${row.regime.length} numbers`],
  ]);
}

function related(title, rows) {
  if (!rows.length) return null;
  return [h("h2", {}, title), h("ul", { class: "related" }, rows.map((row) => h("li", {}, visible(row.kind), " ", trustBadge(row.trust), " ", link(row, visible(shortened(row.text))))))];
}

function revision(row) {
  return h("li", {}, h("h3", {}, `Revision ${row.rev} `, row.state === "forgotten" ? badge("tombstone", "bad") : trustBadge(row.trust)),
    h("p", { class: "note" }, when(row.known_time), ` · ${visible(row.source)} · `, entryLink(row.audit_seq)),
    h("p", { class: "pre" }, visible(row.text, "\n")));
}
