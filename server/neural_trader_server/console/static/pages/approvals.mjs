/** What waits for a person, in full; approved by a signature that is made here, or rejected. */

import { openDialog, reasonDialog } from "../dialogs.mjs";
import { badge, decimal, facts, failure, fill, h, usd, visible, when } from "../dom.mjs";
import { keyring } from "../keyring.mjs";
import { checked, hashIntent, signedBy } from "../signing.mjs";
import { isLocked, nameIn, openKey } from "../unlocking.mjs";
import { headline, left, ruleList, terms, whole } from "../wording.mjs";

export const title = "Approvals";

export async function render(root, api, [wanted]) {
  const notice = h("div", { role: "status", "aria-live": "polite" });
  const key = h("p", { class: "note" });
  const list = h("div", {});
  let inbox = null;
  let drawn = "";
  let ahead = 0;  // the server's clock before ours, in milliseconds

  const showKey = () => fill(key, keyring.name
    ? [badge("key unlocked", "good"), " ", h("span", { class: "mono" }, visible(keyring.name)), " in this page's memory. ",
       h("button", { class: "link", type: "button", onclick: () => keyring.forget() }, "Forget it")]
    : inbox?.key
      ? ["Your approvals count with the key ", h("span", { class: "mono" }, visible(inbox.key)), ". It is unlocked in this page and never sent."]
      : [badge("no approver", "warn"), ` ${visible(inbox?.person ?? "")} is not enrolled as an approver: what is signed here will be refused.`]);

  async function refresh() {
    inbox = await api.get("/approvals");
    ahead = Date.parse(inbox.now) - Date.now();
    const { now: _, ...rest } = inbox;
    if (JSON.stringify(rest) === drawn) return;
    drawn = JSON.stringify(rest);
    showKey();
    const cards = await Promise.all(inbox.waiting.map(card));
    fill(list, cards.length ? cards : h("p", { class: "empty" }, "Nothing waits for you."));
    count();
  }

  function count() {
    for (const each of list.querySelectorAll("[data-expires]")) {
      const ms = Date.parse(each.dataset.expires) - Date.now() - ahead;
      each.textContent = ms > 0 ? `expires in ${left(ms)}` : "expired";
      each.className = `badge ${ms > 120000 ? "quiet" : "warn"}`;
      if (ms <= 0) each.closest("article").querySelectorAll("button").forEach((button) => { button.disabled = true; });
    }
  }

  async function card(row) {
    const { intent } = row;
    return h("article", { class: "card", "data-preview": row.preview_id, "aria-label": headline(intent) },
      h("div", { class: "row" },
        h("h2", {}, headline(intent)), badge(terms(intent)), inbox.mode === "live" ? badge("LIVE: real money", "live") : null,
        h("span", { class: "push" }), h("span", { class: "badge", "data-expires": row.expires_at })),
      facts([
        ["asked by", `${row.agent}, the agent of ${row.principal}`],
        ["about", h("span", {}, h("strong", {}, usd(row.notional)), ` at ${decimal(row.price)} USD`)],
        ["account", intent.account],
        ["why, in the agent's words", h("q", {}, visible(intent.reason))],
        ["policy wants a person", ruleList(row.reasons)],
        row.taint ? ["outside text", h("span", { class: "warning" }, `This agent has read text from outside (${visible(row.taint)}): it may be acting on a stranger's words.`)] : null,
        ["signatures", `${row.missing} missing${row.signed_by.length ? `; signed by ${row.signed_by.join(", ")}` : ""}`],
      ]),
      h("details", {}, h("summary", {}, "What exactly is signed"),
        whole(intent),
        facts([["preview", row.preview_id], ["hash of the order", h("code", {}, await hashIntent(intent))], ["policy", h("code", {}, visible(row.policy_digest))], ["asked at", when(row.created_at)]])),
      h("div", { class: "actions" },
        h("button", { type: "button", "data-do": "reject", onclick: () => reject(row) }, "Reject…"),
        h("button", { class: "primary", type: "button", "data-do": "approve", onclick: () => approve(row) }, "Approve…")));
  }

  function reject(row) {
    reasonDialog({
      title: `Reject ${headline(row.intent)}?`,
      about: h("p", {}, "It is refused for good; its agent may preview another order."),
      label: "Why (it goes into the audit log)",
      action: "Reject",
      kind: "danger",
      act: async (reason) => {
        await api.post(`/approvals/${encodeURIComponent(row.preview_id)}/reject`, { reason });
        fill(notice, h("p", { class: "success" }, `Rejected: ${headline(row.intent)}.`));
        await refresh();
      },
    });
  }

  function approve(row) {
    openDialog(`Approve ${headline(row.intent)}`, (close) => {
      const body = h("div", {}, h("p", { class: "loading" }, "Asking for the draft…"));
      draft(row).then((approval) => fill(body, form(row, approval, close)), (error) => fill(body, failure(error), closing(close)));
      return body;
    });
  }

  async function draft(row) {
    const given = await api.get(`/approvals/${encodeURIComponent(row.preview_id)}/draft`);
    return checked(given, row, Date.now() + ahead);
  }

  function form(row, approval, close) {
    const { intent } = row;
    const problem = h("div", {});
    const file = h("input", { type: "file", name: "key", accept: ".key", required: !keyring.name });
    const passphrase = h("input", { type: "password", name: "passphrase", autocomplete: "off" });
    const locked = h("label", { hidden: true }, "Its passphrase (it stays in this page)", passphrase);
    const chosen = h("p", { class: "note" });
    const go = h("button", { class: "primary", type: "submit" }, "Sign and approve");
    let text = "";
    file.addEventListener("change", async () => {
      text = (await file.files[0]?.slice(0, 65537).text()) ?? "";
      locked.hidden = !isLocked(text);
      passphrase.required = !locked.hidden;
      fill(chosen, text ? `Key: ${visible(nameIn(text) ?? "unknown")}` : "");
      if (!locked.hidden) passphrase.focus();
    });
    const send = async (event) => {
      event.preventDefault();
      go.disabled = true;
      fill(problem, text && !keyring.name ? h("p", { class: "note" }, "Opening the key…") : "");
      try {
        if (!keyring.name) {
          const key = await openKey(text, passphrase.value);
          keyring.keep(key);
          text = passphrase.value = file.value = "";
        }
        const signed = await signedBy(keyring.use(), approval);
        const done = await api.post(`/approvals/${encodeURIComponent(row.preview_id)}/accept`, { approval: signed });
        close();
        fill(notice, h("p", { class: "success" },
          `Approved: ${headline(intent)}. `,
          done.missing ? `It still waits for ${done.missing} more.` : ["Its agent may submit it until ", when(done.expires_at), "."]));
        await refresh();
      } catch (error) {
        fill(problem, failure(error));
        if (error.code === "approver_key_mismatch") keyring.forget();
        go.disabled = false;
        // A draft is signed once; after a refusal another one is asked for.
        draft(row).then((fresh) => { approval = fresh; }, () => {});
      }
    };
    return h("form", { onsubmit: send },
      facts([
        ["order", `${headline(intent)} (${terms(intent)})`],
        ["for", `${intent.account}, by ${row.agent} of ${row.principal}`],
        ["about", usd(row.notional)],
        ["why", h("q", {}, visible(intent.reason))],
        ["while the price stays", `${decimal(approval.price_low)} to ${decimal(approval.price_high)} USD`],
        ["until", when(approval.expires_at)],
      ]),
      h("p", { class: "note" }, "This page has computed the order's hash itself, and the draft is for this order."),
      keyring.name
        ? h("p", {}, badge("key unlocked", "good"), " ", h("span", { class: "mono" }, visible(keyring.name)))
        : [h("label", {}, "Your approver's key file (approver.key); it is read here and never sent", file), chosen, locked],
      problem,
      h("div", { class: "actions" }, h("button", { class: "quiet", type: "button", onclick: close }, "Back"), go));
  }

  const closing = (close) => h("div", { class: "actions" }, h("button", { class: "primary", type: "button", onclick: close }, "Close"));

  root.append(h("h1", {}, "Approvals"), key, notice, list);
  await refresh();
  if (wanted) list.querySelector(`[data-preview="${CSS.escape(wanted)}"]`)?.scrollIntoView();
  const unwatch = keyring.watch(showKey);
  const timer = setInterval(count, 1000);
  return { refresh, everySeconds: 3, leave: () => { clearInterval(timer); unwatch(); } };
}
