/** What the desk holds and is worth, how it came to it, and what happened last. */

import { chart } from "../charts.mjs";
import { badge, decimal, failure, fill, h, table, usd, visible, when } from "../dom.mjs";
import { headline, stateBadge } from "../wording.mjs";

export const title = "Overview";

const NEWEST = 8;

/** An amount of the account's currency. */
const money = (text, currency) => (currency === "USD" ? usd(text) : text === null ? "–" : `${decimal(text, 2)} ${visible(currency)}`);
const signed = (text, currency) => {
  if (text === null || text === undefined) return "–";
  const tone = String(text).startsWith("-") ? "negative" : /[1-9]/.test(text) ? "positive" : null;
  return h("span", { class: tone }, tone === "positive" ? "+" : "", money(text, currency));
};
const card = (name, value, note = null) => h("div", { class: "card" }, h("div", { class: "note" }, name), h("div", { class: "figure" }, value), note ? h("small", {}, note) : null);

export async function render(root, api) {
  const choice = h("select", { name: "account", onchange: () => refresh() });
  const chosen = h("label", { class: "inline push", hidden: true }, "Account", choice);
  const cards = h("div", { class: "cards many", "aria-live": "off" });
  const graph = h("div", {});
  const holdings = h("div", {});
  const earned = h("small", {});
  const orders = h("div", {});
  let drawn = "";
  let curve = null;
  let charted = "";

  async function refresh() {
    const asked = choice.value || null;
    const [{ accounts, portfolio: now }, { orders: newest }] = await Promise.all([api.get("/overview", { account: asked }), api.get("/orders")]);
    const words = JSON.stringify([accounts, now, newest.slice(0, NEWEST)]);
    if (words !== drawn) {
      drawn = words;
      show(accounts, now, newest.slice(0, NEWEST));
    }
    // Its history changes when something was booked or priced, and then what it is worth does.
    const state = JSON.stringify([now.account, now.equity, now.cash, now.clock]);
    if (state !== charted) {
      charted = state;
      trace(await api.get("/overview/equity", { account: now.account }), now);
    }
  }

  function show(accounts, now, newest) {
    fill(choice, accounts.map((each) => h("option", { value: each.account, selected: each.account === now.account }, visible(`${each.account} (${each.kind})`))));
    chosen.hidden = accounts.length < 2;
    const { currency } = now;
    fill(cards,
      h("div", { class: "card" }, h("div", { class: "note" }, "Equity"), h("div", { class: "figure" }, money(now.equity, currency)), earned),
      card("Today", signed(now.day_pnl, currency), "since the last session's close"),
      card("Cash", money(now.cash, currency), now.settled_cash === now.cash ? "all of it settled" : `${money(now.settled_cash, currency)} settled`),
      card("Buying power", money(now.buying_power, currency), now.reserved_cash === "0" ? "nothing held back for orders" : `${money(now.reserved_cash, currency)} held back for orders`),
      card("Exposure", `${decimal(String(Math.round(Number(now.exposure) * 1000) / 10))} %`, "of equity, long and short together"),
      card("May lose in a day", money(now.risk.var, currency), now.risk.var === null ? visible(now.risk.note) : `${Math.round(now.risk.confidence * 100)} % of days less; ${visible(now.risk.method)}, ${now.risk.observations} days`));
    fill(holdings, h("h2", {}, "Positions"), table([
      { title: "Symbol", cell: (row) => h("strong", {}, visible(row.symbol)) },
      { title: "Quantity", numeric: true, cell: (row) => decimal(row.quantity) },
      { title: "Average price", numeric: true, cell: (row) => decimal(row.average_price) },
      { title: "Last price", numeric: true, cell: (row) => decimal(row.market_price) },
      { title: "Value", numeric: true, cell: (row) => money(row.market_value, currency) },
      { title: "Open profit", numeric: true, cell: (row) => signed(row.unrealized_pnl, currency) },
      { title: "Realised", numeric: true, cell: (row) => signed(row.realized_pnl, currency) },
    ], now.positions, { empty: "Nothing is held.", caption: now.priced_at ? ["priced at ", when(now.priced_at)] : "", key: (row) => row.symbol }));
    fill(orders, h("div", { class: "row" }, h("h2", {}, "Newest orders"), h("a", { class: "push", href: "#/orders" }, "all orders")), table([
      { title: "When", cell: (row) => when(row.created_at), class: "nowrap" },
      { title: "Order", cell: (row) => h("a", { href: `#/orders/${encodeURIComponent(row.client_order_id)}` }, headline(row)), class: "nowrap" },
      { title: "State", cell: (row) => stateBadge(row.state) },
      { title: "Agent", cell: (row) => visible(row.agent) },
      { title: "Why", cell: (row) => visible(row.reason), class: "words" },
    ], newest, { empty: "No orders yet." }));
  }

  function trace(told, now) {
    // The last point is what the cards say: live prices are finer than the closes of the history.
    const { times, values, count } = told.equity;
    const end = Math.floor(new Date(now.clock).getTime() / 1000);
    const line = { name: "", kind: "area", times: [...times], values: [...values] };
    if (Number.isFinite(end) && end > (times.at(-1) ?? 0)) {
      line.times.push(end);
      line.values.push(now.equity);
    }
    if (curve) curve.show([line]);
    else curve = chart("Equity", [line], { unit: now.currency });
    fill(earned, told.earned === null ? null : ["earned ", signed(told.earned, now.currency), " since it was opened"]);
    fill(graph, curve.element,
      count > times.length ? h("p", { class: "note" }, `${decimal(String(count))} moments, thinned to what the screen can show; every high and low is kept.`) : null,
      told.unpriced ? h("p", { class: "warning" }, `${told.unpriced} moments are left out: something held had no price then. `, h("code", {}, "neural-trader data list"), " shows what there is.") : null,
      h("p", { class: "note" }, "From the fills and payments of the log, at the closes known at each moment."));
  }

  root.append(h("div", { class: "row" }, h("h1", {}, "Overview"), chosen), cards, graph, h("div", {}, holdings, orders));
  try {
    await refresh();
  } catch (error) {
    if (error.status === 401) throw error;
    fill(cards);
    fill(graph, failure(error), badge("no account can be shown", "warn"));
  }
  return { refresh, leave: () => curve?.leave() };
}
