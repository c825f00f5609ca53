/** Strategies: the code that was saved, its versions, what speaks against it, and its backtests. */

import { badge, decimal, facts, fill, h, table, visible, when } from "../dom.mjs";
import { runTable } from "./backtests.mjs";

export const title = "Strategies";

export async function render(root, api, [id]) {
  return id ? detail(root, api, id) : list(root, api);
}

const figure = (value) => (value === null || value === undefined ? "–" : value.toFixed(2).replace("-", "\u2212"));
const link = (row, words) => h("a", { href: `#/strategies/${encodeURIComponent(row.strategy_id)}` }, words);

async function list(root, api) {
  const words = h("input", { type: "search", name: "find", placeholder: "name, description, digest", oninput: () => draw() });
  const rows = h("div", {});
  let found = { strategies: [], limit: 0, runs_limit: 0 };
  let drawn = "";

  function draw() {
    const wanted = words.value.trim().toLowerCase();
    const shown = found.strategies.filter((row) => !wanted || [row.name, row.description, row.strategy_id].some((each) => each.toLowerCase().includes(wanted)));
    const now = JSON.stringify(shown);
    if (now === drawn) return;
    drawn = now;
    fill(rows, table([
      { title: "Strategy", cell: (row) => link(row, `${visible(row.name)} v${row.version}`), class: "nowrap" },
      { title: "Saved", cell: (row) => when(row.created_at), class: "nowrap" },
      { title: "What it does", cell: (row) => visible(row.description || "–"), class: "words" },
      { title: "Lines", numeric: true, cell: (row) => decimal(String(row.lines)) },
      { title: "Runs", numeric: true, cell: (row) => String(row.runs) },
      { title: "Deflated Sharpe of the newest", numeric: true, cell: (row) => (row.newest ? h("a", { href: `#/backtests/${encodeURIComponent(row.newest.run_id)}` }, figure(row.newest.metrics.deflated_sharpe_ratio)) : "–") },
      { title: "Digest", cell: (row) => h("code", {}, row.strategy_id.slice(0, 12)) },
    ], shown, {
      caption: `${shown.length} ${shown.length === 1 ? "version" : "versions"}, newest first`,
      empty: found.strategies.length ? "No strategy fits." : "No strategy was saved yet. An agent saves one with strategy_save; strategy_get_api shows how to write one.",
      key: (row) => row.strategy_id,
    }), found.strategies.length ? h("p", { class: "note" }, `Runs are counted among the newest ${found.runs_limit} of the desk.`) : null);
  }

  async function refresh() {
    found = await api.get("/strategies");
    draw();
  }

  root.append(h("h1", {}, "Strategies"), h("div", { class: "filters" }, h("label", {}, "Find", words)), rows);
  await refresh();
  return { refresh };
}

async function detail(root, api, id) {
  const place = h("div", {});
  let drawn = "";

  async function refresh() {
    const told = await api.get(`/strategies/${encodeURIComponent(id)}`);
    const now = JSON.stringify(told);
    if (now === drawn) return;
    drawn = now;
    const { strategy, outline, versions } = told;
    const looked = told.look_ahead === null ? badge("not checked for look-ahead", "quiet")
      : told.look_ahead ? badge(`looks ahead: ${told.look_ahead} decisions`, "bad") : badge("no look-ahead found", "good");
    fill(place,
      h("p", {}, h("a", { href: "#/strategies" }, "all strategies")),
      h("div", { class: "row" }, h("h1", {}, `${visible(strategy.name)} v${strategy.version}`), looked),
      strategy.description ? h("p", {}, visible(strategy.description, "\n")) : null,
      outline.problem ? h("p", { class: "failure", role: "alert" }, visible(outline.problem)) : null,
      h("div", { class: "card" }, facts([
        ["written as", visible(outline.kind)], ["saved", when(strategy.created_at)], ["digest of the source", h("code", {}, visible(strategy.strategy_id))],
        ["parameters", outline.parameters.length ? visible(outline.parameters.map((each) => `${each.name}${each.kind ? `: ${each.kind}` : ""}${each.default === null || each.default === undefined ? "" : ` = ${JSON.stringify(each.default)}`}`).join(", ")) : "none that can be read"],
      ])),
      outline.suspicions.length ? h("div", { class: "warning" }, h("strong", {}, "Lines that may look ahead"), h("ul", {}, outline.suspicions.map((each) => h("li", {}, `line ${each.line}: ${visible(each.why)}`)))) : null,
      h("h2", {}, "Backtests"), runTable(told.runs, { withStrategy: false, empty: `None among the newest ${told.runs_limit} runs of the desk.` }),
      versions.length > 1 ? [h("h2", {}, "Versions"), h("ul", { class: "related" }, versions.map((each) => h("li", {}, link(each, `v${each.version}`), " ", when(each.created_at), each.strategy_id === strategy.strategy_id ? [" ", badge("shown", "quiet")] : null)))] : null,
      h("h2", {}, "Source"), h("pre", { class: "source", tabindex: "0" }, visible(strategy.source, "\n\t")));
  }

  root.append(place);
  await refresh();
  return { refresh, everySeconds: 5 };
}
