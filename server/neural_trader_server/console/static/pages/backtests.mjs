/** Backtests: how far to trust each of them, then what it earned; its curves, trades, prices and proof. */

import { chart } from "../charts.mjs";
import { badge, decimal, facts, failure, fill, h, table, visible, when } from "../dom.mjs";
import { hasPage } from "../pages.mjs";

export const title = "Backtests";

const STATES = { completed: "good", failed: "bad", interrupted: "warn", canceled: "quiet", running: "quiet", queued: "quiet" };
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const SYMBOLS_SHOWN = 4;

const percent = (value, places = 1) => (value === null || value === undefined ? "–" : `${(100 * value).toFixed(places).replace("-", "\u2212")} %`);
const figure = (value, places = 2) => (value === null || value === undefined ? "–" : value.toFixed(places).replace("-", "\u2212"));
const amount = (value, places = 2) => (value === null || value === undefined ? "–" : decimal(value.toFixed(places)));
const stateOf = (row) => badge(row.state === "running" ? `running, ${Math.round(100 * row.progress)} %` : visible(row.state), STATES[row.state]);
const names = (symbols, most = SYMBOLS_SHOWN) => visible(symbols.slice(0, most).join(", ")) + (symbols.length > most ? ` and ${symbols.length - most} more` : "");
const strategyOf = (row) => (row.strategy_id
  ? h("a", { href: `#/strategies/${encodeURIComponent(row.strategy_id)}` }, visible(row.strategy ?? row.strategy_id.slice(0, 12)))
  : h("span", { class: "note" }, "unsaved source"));

/** What else a row of runs needs: used by the page of a strategy, too. */
export function runTable(runs, { caption = "", empty, withStrategy = true } = {}) {
  return table([
    { title: "When", cell: (row) => when(row.created_at), class: "nowrap" },
    { title: "Run", cell: (row) => h("a", { href: `#/backtests/${encodeURIComponent(row.run_id)}` }, row.kind === "sweep" ? `sweep of ${decimal(String(row.combinations))}` : visible(row.run_id)), class: "nowrap" },
    withStrategy ? { title: "Strategy", cell: strategyOf, class: "nowrap" } : null,
    { title: "On", cell: (row) => `${names(row.symbols, 2)}, ${visible(row.interval)}`, class: "nowrap" },
    { title: "State", cell: stateOf },
    { title: "Deflated Sharpe", numeric: true, cell: (row) => figure(row.metrics.deflated_sharpe_ratio) },
    { title: "Trials", numeric: true, cell: (row) => (row.metrics.trials ?? null) === null ? "–" : decimal(String(row.metrics.trials)) },
    { title: "Sharpe", numeric: true, cell: (row) => figure(row.metrics.sharpe_ratio) },
    { title: "A year", numeric: true, cell: (row) => percent(row.metrics.cagr) },
    { title: "Drawdown", numeric: true, cell: (row) => percent(row.metrics.max_drawdown) },
    { title: "Warnings", numeric: true, cell: (row) => String(row.warnings.length) },
    { title: "Agent", cell: (row) => visible(row.agent || "a person"), class: "nowrap" },
  ].filter(Boolean), runs, { caption, empty, key: (row) => row.run_id });
}

export async function render(root, api, [id]) {
  return id ? detail(root, api, id) : list(root, api);
}

async function list(root, api) {
  const words = h("input", { type: "search", name: "find", placeholder: "symbol, strategy, agent, id", oninput: () => draw() });
  const rows = h("div", {});
  let found = { runs: [], limit: 0 };
  let drawn = "";

  function draw() {
    const wanted = words.value.trim().toLowerCase();
    const shown = found.runs.filter((row) => !wanted || [row.run_id, row.strategy ?? "", row.agent, ...row.symbols].some((each) => each.toLowerCase().includes(wanted)));
    const now = JSON.stringify(shown);
    if (now === drawn) return;
    drawn = now;
    fill(rows,
      runTable(shown, {
        caption: `${shown.length} ${shown.length === 1 ? "run" : "runs"}, newest first`,
        empty: found.runs.length ? "No run fits." : ["No backtest yet. An agent starts one with backtest_start; a person with ", h("code", {}, "neural-trader backtest run FILE --symbol AAPL"), "."],
      }),
      found.runs.length >= found.limit && found.limit ? h("p", { class: "note" }, `The newest ${found.limit} are shown.`) : null);
  }

  async function refresh() {
    found = await api.get("/backtests");
    draw();
  }

  root.append(h("h1", {}, "Backtests"),
    h("p", { class: "note" }, "The deflated Sharpe ratio is the chance that a result is more than the luck of so many trials; 0.95 is what one would call sure."),
    h("div", { class: "filters" }, h("label", {}, "Find", words)), rows);
  await refresh();
  return { refresh };
}

async function detail(root, api, id) {
  const path = `/backtests/${encodeURIComponent(id)}`;
  const charts = [];
  const place = h("div", {});
  let drawn = "";

  async function refresh() {
    const told = await api.get(path);
    const now = JSON.stringify(told);
    if (now === drawn) return;
    drawn = now;
    charts.splice(0).forEach((each) => each.leave());
    const { run } = told;
    fill(place,
      h("p", {}, h("a", { href: "#/backtests" }, "all backtests")),
      h("div", { class: "row" }, h("h1", {}, run.kind === "sweep" ? `Sweep of ${decimal(String(run.combinations))} on ${names(run.symbols)}` : `${visible(run.strategy ?? "A strategy")} on ${names(run.symbols)}`), stateOf(run)),
      h("p", { class: "note" }, visible(run.run_id), ` · ${visible(run.interval)} · started `, when(run.created_at), ` by ${visible(run.agent || "a person")}`,
        run.entry !== null && hasPage("audit") ? [" · ", h("a", { href: `#/audit/${run.entry}` }, `entry ${run.entry} of the log`)] : null),
      run.error ? h("p", { class: "failure", role: "alert" }, visible(run.error, "\n")) : null,
      told.report ? report(told) : null,
      told.sweep ? sweep(told.sweep) : null,
      told.asked ? asked(run, told.asked) : null);
  }

  function report({ run, report: found, asked: given }) {
    const [equity, drawdown] = [
      chart("Equity", [
        { name: "strategy", kind: "area", ...found.equity },
        ...(found.hold ? [{ name: "bought and held", kind: "line", tone: "soft", ...found.hold }] : []),
      ], { unit: "USD" }),
      chart("Drawdown", [{ name: "", kind: "area", tone: "bad", ...found.drawdown }], { unit: "%", height: 160 }),
    ];
    charts.push(equity, drawdown);
    const trust = found.metrics.filter((each) => each.trust);
    const others = found.metrics.filter((each) => !each.trust);
    return [
      h("p", { class: `verdict${found.sure ? " sure" : ""}`, "data-verdict": "" }, visible(found.verdict)),
      h("div", { class: "cards many" }, [
        card("Deflated Sharpe", figure(found.deflated_now), `after ${decimal(String(found.trials_now))} trials on this data; sure: 0.95`),
        ...trust.filter((each) => !["deflated_sharpe_ratio", "trials"].includes(each.name)).map((each) => card(label(each.name), visible(each.shown))),
      ]),
      run.warnings.length ? h("div", { class: "warning" }, h("strong", {}, `${run.warnings.length} ${run.warnings.length === 1 ? "warning" : "warnings"}`), h("ul", {}, run.warnings.map((each) => h("li", {}, visible(each))))) : null,
      equity.element, drawdown.element,
      found.equity.count > found.equity.times.length ? h("p", { class: "note" }, `${decimal(String(found.equity.count))} bars, thinned to what the screen can show; every high and low is kept.`) : null,
      h("h2", {}, "Monthly returns, %"), heat(found),
      h("div", {}, prices(found)),
      h("h2", {}, "Trades"), trades(found.trades),
      h("h2", {}, "All figures"),
      h("div", { class: "card" }, facts(others.map((each) => [label(each.name), visible(each.shown)]))),
      found.output ? [h("h2", {}, "What it printed last"), h("pre", { class: "wrapped" }, visible(found.output, "\n"))] : null,
      h("h2", {}, "Proof"),
      h("div", { class: "card" }, facts([["digest", h("code", {}, visible(found.digest))], ["engine", visible(found.engine)], ["prices as known at", when(given.as_of)], ["run it again and compare", h("code", {}, `neural-trader backtest verify ${run.run_id}`)]]),
        h("div", { class: "actions" }, sheet(run.run_id))),
    ];
  }

  function prices(found) {
    const wanted = h("select", { name: "symbol", onchange: () => show() }, found.traded.map((each) => h("option", { value: each.symbol }, `${visible(each.symbol)} (${each.trades} ${each.trades === 1 ? "trade" : "trades"})`)));
    const graph = h("div", {});
    let made = null;
    async function show() {
      try {
        const told = await api.get(`${path}/price`, { symbol: wanted.value });
        const { marks } = told;
        const line = told.bars ? { name: told.symbol, kind: "candles", marks, ...told.bars } : { name: told.symbol, kind: "line", marks, ...told.closes };
        if (made) made.show([line]);
        else charts.push(made = chart("Price", [line], { height: 360 }));
        fill(graph, made.element, h("p", { class: "note" },
          `${told.trades} ${told.trades === 1 ? "trade" : "trades"}: arrows in blue enter, in amber leave.`,
          told.marks_count > marks.length ? ` ${marks.length} of ${told.marks_count} marks can be told apart here.` : "",
          told.bars ? "" : ` Closes of ${decimal(String(told.count))} bars.`));
      } catch (error) {
        if (error.status !== 401) fill(graph, failure(error));
      }
    }
    show();
    return [h("div", { class: "row" }, h("h2", {}, "Price and trades"), h("label", { class: "inline push" }, "Symbol", wanted)), graph];
  }

  function trades(count) {
    if (!count) return h("p", { class: "empty" }, "It never traded.");
    const rows = h("div", {});
    async function show(offset) {
      const told = await api.get(`${path}/trades`, { offset });
      const move = (to, word) => h("button", { type: "button", class: "quiet", disabled: to < 0 || to >= told.count, onclick: () => show(to) }, word);
      fill(rows, table([
        { title: "Symbol", cell: (row) => visible(row.symbol) },
        { title: "Side", cell: (row) => visible(row.side) },
        { title: "Entered", cell: (row) => when(row.entry_time), class: "nowrap" },
        { title: "Left", cell: (row) => (row.exit_time ? when(row.exit_time) : "still open"), class: "nowrap" },
        { title: "Units", numeric: true, cell: (row) => amount(row.quantity, 4) },
        { title: "Entered at", numeric: true, cell: (row) => amount(row.entry_price) },
        { title: "Left at", numeric: true, cell: (row) => amount(row.exit_price) },
        { title: "Profit", numeric: true, cell: (row) => h("span", { class: row.pnl < 0 ? "negative" : "positive" }, amount(row.pnl)) },
        { title: "Return", numeric: true, cell: (row) => percent(row.return, 2) },
      ], told.trades, { caption: `${told.offset + 1} to ${told.offset + told.trades.length} of ${decimal(String(told.count))}, oldest first` }),
      told.count > told.page ? h("div", { class: "actions" }, move(told.offset - told.page, "Earlier"), move(told.offset + told.page, "Later")) : null);
    }
    show(0).catch((error) => fill(rows, failure(error)));
    return rows;
  }

  function sheet(runId) {
    const note = h("span", {});
    const button = h("button", { type: "button", onclick: async () => {
      button.disabled = true;
      fill(note);
      try {
        const told = await api.get(`${path}/sheet`);
        const address = URL.createObjectURL(new Blob([told.html], { type: "text/html" }));
        const link = h("a", { href: address, download: told.name });
        link.click();
        setTimeout(() => URL.revokeObjectURL(address), 10_000);
      } catch (error) {
        fill(note, failure(error));
      } finally {
        button.disabled = false;
      }
    } }, "Save its tear sheet");
    button.title = `one HTML file that fetches nothing, as \`neural-trader backtest report ${runId} --out FILE\` writes it`;
    return [note, button];
  }

  root.append(place);
  await refresh();
  return { refresh, everySeconds: 3, leave: () => charts.forEach((each) => each.leave()) };
}

const card = (name, value, note = null) => h("div", { class: "card" }, h("div", { class: "note" }, name), h("div", { class: "figure" }, value), note ? h("small", {}, note) : null);
const label = (name) => {
  const words = visible(name).replace(/_/g, " ");
  return words[0].toUpperCase() + words.slice(1);
};

function heat({ months, years }) {
  const most = Math.max(...months.map((each) => Math.abs(each.value ?? 0)), 1e-9);
  const found = new Map(months.map((each) => [`${each.year}-${each.month}`, each.value]));
  const cell = (value) => (value === undefined || value === null ? h("td", {})
    : h("td", { class: `${value > 0 ? "up" : value < 0 ? "down" : ""}${Math.abs(value) > most / 2 ? " strong" : ""}` }, (100 * value).toFixed(1).replace("-", "\u2212")));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Monthly returns" }, h("table", { class: "heat" },
    h("thead", {}, h("tr", {}, ["", ...MONTHS, "Year"].map((name) => h("th", { scope: "col", class: "number" }, name)))),
    h("tbody", {}, years.map(({ year, value }) => h("tr", { "data-key": year }, h("th", { scope: "row" }, String(year)),
      MONTHS.map((_, month) => cell(found.get(`${year}-${month + 1}`))), cell(value))))));
}

function sweep({ space, objective, validation, done, result }) {
  const best = result?.best;
  return [
    h("div", { class: "cards many" },
      card("Deflated Sharpe", figure(result?.deflated_sharpe_ratio), `of the best, after ${decimal(String(result?.trials ?? 0))} trials`),
      card("Overfitting (PBO)", percent(result?.pbo), result?.pbo === null || result?.pbo === undefined ? "too few to tell" : `of ${result.pbo_trials} combinations`),
      card("Finished", decimal(String(done)), result?.failed ? `${result.failed} failed` : "none failed"),
      card("Best by", label(objective), best ? figure(best.objective, 3) : "nothing has one")),
    result?.warnings?.length ? h("div", { class: "warning" }, h("ul", {}, result.warnings.map((each) => h("li", {}, visible(each))))) : null,
    best ? [h("h2", {}, "The best combination"), h("div", { class: "card" }, facts([...Object.entries(best.params).map(([name, value]) => [visible(name), visible(JSON.stringify(value))]), ["seed", String(best.seed)]]),
      h("p", { class: "note" }, "Run it alone with backtest_start to see its trades and curves."))] : null,
    result?.out_of_sample ? [h("h2", {}, "Out of sample"), h("pre", { class: "wrapped" }, visible(JSON.stringify(result.out_of_sample, null, 1), "\n"))] : null,
    h("h2", {}, "What was varied"), h("pre", { class: "wrapped" }, visible(JSON.stringify(validation ? { ...space, validation } : space, null, 1), "\n")),
  ];
}

function asked(run, given) {
  const settings = Object.entries(given.settings).map(([name, value]) => [name.replace(/_/g, " "), typeof value === "string" ? visible(value) : visible(JSON.stringify(value))]);
  return [
    h("h2", {}, "Asked for"),
    h("div", { class: "card" }, facts([
      ["strategy", strategyOf(run)], ["symbols", names(run.symbols, 40)], ["from", run.start ? when(run.start) : "the first bar"], ["until", run.end ? when(run.end) : "the last bar"],
      ["parameters", Object.keys(given.params).length ? visible(JSON.stringify(given.params)) : "as the strategy says"], ["seed", String(given.seed)],
    ]), h("details", {}, h("summary", {}, "Settings"), facts(settings)), h("details", {}, h("summary", {}, "Source"), h("pre", { class: "source" }, visible(given.source, "\n\t")))),
  ];
}
