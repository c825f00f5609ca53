/** The orders of all agents, and the story of one: intent, policy, approvals, submission, fills. */

import { badge, decimal, facts, failure, fill, h, table, usd, visible, when } from "../dom.mjs";
import { openDialog } from "../dialogs.mjs";
import { hasPage } from "../pages.mjs";
import { headline, ruleList, stateBadge, terms, whole } from "../wording.mjs";

export const title = "Orders";

const GROUPS = [["all", "all states"], ["working", "working"], ["filled", "filled"], ["partially_filled", "partially filled"], ["canceled", "canceled"], ["denied", "denied"], ["rejected", "rejected"], ["expired", "expired"], ["unknown", "unknown"]];
const WORDS = {
  "policy.decision": "Policy judged it", "approval.request": "A person is asked", "approval.grant": "A person approved", "approval.reject": "A person rejected",
  "order.intent": "Submitted: written to the log, then sent", "broker.submit": "Sent to the venue", "broker.ack": "The venue answered",
  "broker.reject": "The venue rejected it", "broker.fill": "Filled", "broker.cancel": "Cancel", recon: "Compared with the venue",
};

export async function render(root, api, [id]) {
  return id ? detail(root, api, id) : list(root, api);
}

async function list(root, api) {
  const state = h("select", { name: "state", onchange: () => refresh(true) }, GROUPS.map(([value, word]) => h("option", { value }, word)));
  const words = h("input", { type: "search", name: "find", placeholder: "symbol, agent, id, reason", oninput: () => draw() });
  const rows = h("div", {});
  let found = { orders: [], limit: 0 };
  let drawn = "";

  function draw() {
    const wanted = words.value.trim().toLowerCase();
    const shown = found.orders.filter((row) => !wanted || [row.symbol, row.agent, row.account, row.client_order_id, row.reason].some((each) => each.toLowerCase().includes(wanted)));
    const now = JSON.stringify(shown);
    if (now === drawn) return;
    drawn = now;
    fill(rows,
      table([
        { title: "When", cell: (row) => when(row.created_at), class: "nowrap" },
        { title: "Order", cell: (row) => h("a", { href: `#/orders/${encodeURIComponent(row.client_order_id)}` }, headline({ ...row })) },
        { title: "Type", cell: (row) => visible(row.type) },
        { title: "State", cell: (row) => stateBadge(row.state) },
        { title: "Filled", numeric: true, cell: (row) => decimal(row.filled_quantity) },
        { title: "Average price", numeric: true, cell: (row) => decimal(row.average_price) },
        { title: "Agent", cell: (row) => visible(row.agent) },
        { title: "Why", cell: (row) => visible(row.reason), class: "words" },
      ], shown, { empty: found.orders.length ? "No order fits." : "No orders yet.", caption: `${shown.length} ${shown.length === 1 ? "order" : "orders"}, newest first` }),
      found.orders.length >= found.limit && found.limit ? h("p", { class: "note" }, `The newest ${found.limit} are shown.`) : null);
  }

  async function refresh() {
    found = await api.get("/orders", { state: state.value });
    draw();
  }

  root.append(h("h1", {}, "Orders"), h("div", { class: "filters" }, h("label", {}, "State", state), h("label", {}, "Find", words)), rows);
  await refresh();
  return { refresh };
}

async function detail(root, api, id) {
  const place = h("div", {});
  const path = `/orders/${encodeURIComponent(id)}`;
  let drawn = "";

  async function refresh() {
    const told = await api.get(path);
    if (JSON.stringify(told) === drawn) return;
    drawn = JSON.stringify(told);
    const { order, intent } = told;
    fill(place,
      h("div", { class: "row" }, h("h1", {}, headline(intent)), stateBadge(order.state), badge(terms(intent)),
        h("span", { class: "push" }),
        order.works ? h("button", { class: "danger", type: "button", "data-do": "cancel", onclick: () => cancel(told) }, "Cancel order…") : null),
      told.agrees === false
        ? h("p", { class: "failure", role: "alert" }, "The log tells another story than the table of orders: run `neural-trader audit verify`.")
        : null,
      h("div", { class: "columns" },
        h("section", { "aria-label": "Story" }, h("h2", {}, "Story"), h("ol", { class: "story" }, told.entries.map(chapter))),
        h("section", { "aria-label": "Facts" }, h("h2", {}, "Facts"), h("div", { class: "card" }, facts([
          ["id", h("code", {}, visible(order.client_order_id))],
          ["filled", `${decimal(order.filled_quantity)} of ${decimal(order.quantity)}`],
          ["average price", order.average_price === null ? "–" : `${decimal(order.average_price)} USD`],
          ["estimated", told.notional === null ? "–" : h("span", {}, usd(told.notional), ` at ${decimal(told.price)} USD`)],
          ["agent", visible(order.agent) + (told.principal ? `, of ${told.principal}` : "")],
          ["account", order.account],
          ["why", h("q", {}, visible(intent.reason))],
          order.detail ? ["detail", order.detail] : null,
          ["log", told.agrees === null ? "its entries are archived" : told.agrees ? "played again, it gives this state" : "contradicts"],
          ["hash of the order", h("code", {}, visible(told.intent_hash))],
        ])),
        h("details", {}, h("summary", {}, "The whole intent"), whole(intent)))));
  }

  function chapter(entry) {
    return h("li", {},
      h("h3", {}, WORDS[entry.type] ?? visible(entry.type), " ", entry.state ? stateBadge(entry.state) : null),
      h("p", { class: "note" }, when(entry.time), ` · ${visible(entry.agent || entry.principal)} · `,
        hasPage("audit") ? h("a", { href: `#/audit/${entry.seq}` }, `entry ${entry.seq}`) : `entry ${entry.seq}`),
      paragraph(entry),
      h("details", {}, h("summary", {}, "As logged"), h("pre", {}, visible(JSON.stringify(entry.payload, null, 2), "\n"))));
  }

  function paragraph({ type, payload }) {
    if (type === "policy.decision") {
      const rules = payload.rules ?? [];
      return h("p", {}, badge(visible(payload.decision).replace(/_/g, " "), payload.decision === "allow" ? "good" : payload.decision === "deny" ? "bad" : "warn"),
        rules.length ? [" by ", rules.map((rule) => [h("code", {}, visible(typeof rule === "string" ? rule : rule.rule)), " "])] : " no rule objects",
        payload.price ? ` · judged at ${decimal(payload.price)} USD` : "");
    }
    if (type === "approval.grant") {
      return h("p", {}, "signed with ", h("span", { class: "mono" }, visible(payload.approver)), `, for ${decimal(payload.price_low)} to ${decimal(payload.price_high)} USD, until `, when(payload.expires_at),
        payload.missing ? `; ${payload.missing} more wanted` : "");
    }
    if (type === "broker.fill") return h("p", {}, `${decimal(payload.quantity)} at ${decimal(payload.price)} USD, fee ${decimal(payload.fee)}${payload.rule ? ` (${visible(payload.rule)})` : ""}`);
    const said = payload.detail || payload.reason || payload.why;
    return said ? h("p", {}, visible(said)) : null;
  }

  function cancel({ order, intent }) {
    openDialog(`Cancel ${headline(intent)}?`, (close) => {
      const problem = h("div", {});
      const go = h("button", { class: "danger", type: "button", autofocus: true }, "Cancel the order");
      go.addEventListener("click", async () => {
        go.disabled = true;
        try {
          await api.post(`/orders/${encodeURIComponent(order.client_order_id)}/cancel`);
          close();
          await refresh();
        } catch (error) {
          fill(problem, failure(error));
          go.disabled = false;
        }
      });
      return h("div", {}, h("p", {}, "What is filled already stays. The cancel is logged in your name."), problem,
        h("div", { class: "actions" }, h("button", { class: "quiet", type: "button", onclick: close }, "Back"), go));
    });
  }

  root.append(h("p", {}, h("a", { href: "#/orders" }, "← Orders")), place);
  await refresh();
  return { refresh };
}
