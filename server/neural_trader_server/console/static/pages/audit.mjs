/** The audit log: found, read, and verified by this browser itself. A green mark is never the server's word. */

import { badge, facts, failure, fill, h, table, visible, when } from "../dom.mjs";
import { openDialog } from "../dialogs.mjs";
import { checkEntry, checkHead, checkNewest, fetchEntry, forget, known, pin } from "../ledger.mjs";
import { ProofError } from "../proof.mjs";

export const title = "Audit log";

const MARKS = { good: ["✓ checked here", "good"], bad: ["✗ FAILED", "bad"], open: ["not checked", "quiet"] };
const DEFAULT_COUNT = 200;

export async function render(root, api, [seq]) {
  return seq === undefined ? list(root, api) : entry(root, api, seq);
}

/** Steps of a check, each with its mark; a failed one says what was expected. */
function stepList(steps) {
  return h("ol", { class: "steps" }, steps.map((each) => h("li", { "data-step": each.name.toLowerCase(), "data-state": each.state },
    h("span", { class: "step" }, each.name), badge(...MARKS[each.state]),
    h("span", { class: "said" }, visible(each.said),
      each.expected !== null ? h("span", { class: "differs" }, "expected ", h("code", {}, visible(each.expected)), " found ", h("code", {}, visible(each.found))) : null))));
}

/** The newest checkpoint as this browser judges it; returns what was found, and fills the place. */
async function headPanel(place, api, again) {
  const head = await checkHead(api);
  const own = known();
  const bad = head.steps.some((each) => each.state === "bad");
  fill(place,
    head.caught ? h("div", { class: "failure", role: "alert", "data-caught": "" },
      h("strong", {}, "This browser has caught the log: "), visible(head.caught.what), " (", when(head.caught.time), "). ",
      h("em", {}, "Stop trading, keep the files, and run `neural-trader audit verify` with a key that you kept elsewhere."),
      h("details", {}, h("summary", {}, "The two signed checkpoints"), h("pre", {}, visible(head.caught.before, "\n")), h("pre", {}, visible(head.caught.after, "\n")),
        h("button", { type: "button", class: "quiet", onclick: () => startAnew(again) }, "Forget what this browser saw…"))) : null,
    bad && !head.caught ? h("div", { class: "failure", role: "alert" }, "The log does not verify: nothing that this page shows of it is proven.") : null,
    h("section", { class: "card", "aria-label": "Checkpoint" }, h("h2", {}, "The signed log, as this browser sees it"), stepList(head.steps),
      h("div", { class: "row key" },
        h("span", { class: "note" }, own.pin ? "pinned key" : "key"), h("code", { class: "vkey" }, visible(own.pin ?? own.key ?? head.vkey)),
        h("button", { type: "button", class: "quiet", onclick: () => pinDialog(again) }, own.pin ? "Pin another key…" : "Pin a key…")),
      head.verifier ? h("p", { class: "note" }, "fingerprint (SHA-256) ", h("span", { class: "mono fingerprint" }, head.verifier.fingerprint.replace(/(.{4})(?=.)/g, "$1 "))) : null,
      own.pin ? null : h("p", { class: "note" }, "Until you pin a key that came to you another way than through this server (", h("code", {}, "keys/log.vkey"), "), this page believes the one that it was shown first.")));
  return head;
}

function pinDialog(again) {
  openDialog("Pin the log's key", (close) => {
    const problem = h("div", {});
    const words = h("textarea", { name: "vkey", rows: "3", required: true, spellcheck: "false", autofocus: true, placeholder: "NAME+KEYID+BASE64" });
    const save = async (event) => {
      event.preventDefault();
      try {
        await pin(words.value);
        close();
        await again();
      } catch (error) {
        if (!(error instanceof ProofError)) throw error;
        fill(problem, failure({ code: "invalid_vkey", what: error.message, nextStep: "paste the one line of keys/log.vkey" }));
      }
    };
    return h("form", { onsubmit: save },
      h("p", {}, "Paste the one line of the verifier key that you keep outside this desk. From then on this browser believes no other, whatever the server shows."),
      h("label", {}, "Verifier key", words), problem,
      h("div", { class: "actions" }, h("button", { class: "quiet", type: "button", onclick: close }, "Back"), h("button", { class: "primary", type: "submit" }, "Pin")));
  });
}

function startAnew(again) {
  openDialog("Forget what this browser saw?", (close) => h("div", {},
    h("p", {}, "The pin, the last checkpoint and the finding above are deleted here. Keep the two checkpoints first: together they prove what happened."),
    h("div", { class: "actions" }, h("button", { class: "quiet", type: "button", autofocus: true, onclick: close }, "Back"),
      h("button", { class: "danger", type: "button", onclick: async () => { forget(); close(); await again(); } }, "Forget it"))));
}

async function list(root, api) {
  const place = h("div", {});
  const rows = h("div", {});
  const result = h("div", { "aria-live": "polite" });
  const bar = h("progress", { value: "0", max: "1", hidden: true, "aria-label": "Entries verified" });
  const type = h("select", { name: "type", onchange: () => search() }, h("option", { value: "" }, "all types"));
  const symbol = h("input", { type: "text", name: "symbol", size: "8", maxlength: "16", onchange: () => search() });
  const agent = h("input", { type: "text", name: "agent", size: "12", maxlength: "80", onchange: () => search() });
  const since = h("input", { type: "date", name: "since", onchange: () => search() });
  const count = h("input", { type: "number", name: "count", min: "1", max: "1000000", value: String(DEFAULT_COUNT) });
  const go = h("button", { type: "button", onclick: () => verify() }, "Verify");
  let head = null;
  let shown = [];
  let here = true;
  let running = false;

  async function search(older = null) {
    try {
      const found = await api.get("/audit/entries", { type: type.value, symbol: symbol.value.trim().toUpperCase(), agent: agent.value.trim(), since: since.value, older });
      if (type.options.length === 1) type.append(...found.types.map((each) => h("option", { value: each }, each)));
      shown = older ? [...shown, ...found.entries] : found.entries;
      fill(rows, table([
        { title: "Number", numeric: true, cell: (row) => h("a", { href: `#/audit/${row.seq}` }, String(row.seq)) },
        { title: "When", cell: (row) => when(row.time), class: "nowrap" },
        { title: "Type", cell: (row) => h("code", {}, visible(row.type)), class: "nowrap" },
        { title: "Who", cell: (row) => visible(row.agent) },
        { title: "Symbol", cell: (row) => visible(row.symbol ?? "–") },
        { title: "What", class: "words", cell: (row) => row.problem ? h("span", {}, badge(visible(row.problem), "bad"), " ", visible(row.summary)) : visible(row.summary) },
      ], shown, { caption: "Entries, the newest first", empty: "No entry is like that.", key: (row) => row.seq }),
      found.older ? h("p", {}, h("button", { type: "button", onclick: () => search(found.older) }, "Older entries")) : null);
    } catch (error) {
      if (error.status !== 401) fill(rows, failure(error));
    }
  }

  async function verify() {
    if (running) {
      running = false;
      return;
    }
    running = true;
    go.textContent = "Stop";
    bar.hidden = false;
    fill(result);
    const began = performance.now();
    try {
      head = await headPanel(place, api, again);
      if (!head.checkpoint) {
        fill(result, h("p", { class: "failure", role: "alert" }, "No entry can be verified while the checkpoint above does not hold."));
        return;
      }
      const wanted = Math.max(1, Math.floor(Number(count.value)) || DEFAULT_COUNT);
      const tell = (done, total) => Object.assign(bar, { max: total, value: done });
      const found = await checkNewest(api, wanted, head.checkpoint, tell, () => running && here);
      const total = found.proven + found.absent + found.failed.length;
      const spent = ((performance.now() - began) / 1000).toFixed(1);
      fill(result,
        found.failed.length ? h("div", { class: "failure", role: "alert" }, h("strong", {}, `${found.failed.length} of ${total} entries FAILED: `),
          h("ul", {}, found.failed.slice(0, 20).map(({ seq, step }) => h("li", {}, h("a", { href: `#/audit/${seq}` }, `entry ${seq}`), step ? `: ${step.name}: ${visible(step.said)}` : "")))) : null,
        found.proven ? h("p", { class: found.failed.length ? "note" : "success" }, `${found.proven} of ${total} entries proven by this browser in ${spent} s${total < Math.min(wanted, head.checkpoint.size) ? " (stopped)" : ""}.`) : null,
        found.absent ? h("p", { class: "warning" }, `${found.absent} are archived where this server cannot read them.`) : null);
    } catch (error) {
      if (error.status !== 401) fill(result, failure(error));
    } finally {
      running = false;
      go.textContent = "Verify";
      bar.hidden = true;
    }
  }

  async function again() {
    head = await headPanel(place, api, again);
  }

  root.append(h("h1", {}, "Audit log"), place,
    h("div", { class: "row verify" }, h("label", { class: "inline" }, "the newest ", count, " entries"), go, bar), result,
    h("div", { class: "filters" }, h("label", {}, "Type", type), h("label", {}, "Symbol", symbol), h("label", {}, "Agent", agent), h("label", {}, "Since (UTC)", since)),
    rows);
  await Promise.all([again(), search()]);
  return { leave: () => { here = false; } };
}

async function entry(root, api, name) {
  const place = h("div", {});
  const body = h("div", {});
  const seq = /^\d{1,15}$/.test(name) ? Number(name) : -1;

  async function again() {
    const head = await headPanel(place, api, again);
    if (!head.checkpoint) {
      fill(body, h("p", { class: "failure", role: "alert" }, "The entry is not shown: the checkpoint below does not hold, so nothing could be proven of it."));
      return;
    }
    const sent = await fetchEntry(api, seq, head.checkpoint);
    const { steps, text, ok } = await checkEntry(sent, head.checkpoint);
    let said = null;
    try {
      said = JSON.parse(text);
    } catch {
      // shown as it came; the step says so
    }
    fill(body,
      h("div", { class: "row" }, ok ? badge("✓ proven by this browser", "good") : badge(text === null ? "archived" : "✗ NOT PROVEN", text === null ? "warn" : "bad"),
        said?.type ? h("code", {}, visible(said.type)) : null, said?.ts ? when(said.ts) : null),
      h("div", { class: "columns" },
        h("section", { "aria-label": "Entry" }, h("h2", {}, "The entry"), said ? laidOut(said) : h("pre", {}, visible(text ?? "Its bytes are archived.", "\n"))),
        h("section", { "aria-label": "Verification" }, h("h2", {}, "Verification"), h("div", { class: "card" }, stepList(steps)),
          h("details", {}, h("summary", {}, "The path to the root"), h("ol", { class: "path" }, sent.path.map((each) => h("li", {}, h("code", {}, visible(each)))))),
          text === null ? null : h("details", {}, h("summary", {}, "The exact bytes"), h("pre", { class: "wrapped" }, visible(text))))));
  }

  root.append(h("div", { class: "row" }, h("h1", {}, `Entry ${visible(name)}`), h("span", { class: "push" }),
    h("a", { href: `#/audit/${seq - 1}`, hidden: seq < 1 }, "← older"), h("a", { href: `#/audit/${seq + 1}` }, "newer →"), h("a", { href: "#/audit" }, "all entries")), body, place);
  await again();
  return {};
}

/** An entry's fields, then its payload, level by level. */
function laidOut(said) {
  const { payload = {}, ...fields } = said;
  return h("div", {},
    h("div", { class: "card" }, facts(Object.entries(fields).map(([name, value]) => [name.replace(/_/g, " "), shownValue(name, value)]))),
    h("h3", {}, "Payload"), Object.keys(payload).length ? h("div", { class: "card payload" }, tree(payload)) : h("p", { class: "note" }, "Empty."));
}

function shownValue(name, value) {
  if (name === "client_order_id") return h("a", { href: `#/orders/${encodeURIComponent(value)}` }, visible(value));
  return name === "ts" ? h("span", {}, when(value), " ", h("code", {}, visible(value))) : visible(value);
}

function tree(value) {
  if (Array.isArray(value)) return value.length ? h("ol", { class: "tree", start: "0" }, value.map((each) => h("li", {}, tree(each)))) : h("span", { class: "note" }, "none");
  if (value !== null && typeof value === "object") {
    return facts(Object.entries(value).map(([name, each]) => [visible(name), tree(each)]));
  }
  return h("span", { class: typeof value === "string" ? "words" : "mono" }, visible(value === null ? "null" : value, "\n"));
}
