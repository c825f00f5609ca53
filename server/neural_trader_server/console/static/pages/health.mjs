/** How the desk stands now; and, where somebody asks, all that `neural-trader doctor` finds out. */

import { badge, failure, fill, h, table, visible, when } from "../dom.mjs";

export const title = "Health";

const STATES = { ok: ["✓ ok", "good"], warning: ["! warning", "warn"], failed: ["✗ failed", "bad"], unknown: ["? not known", "quiet"] };
const RANK = ["failed", "warning", "unknown", "ok"];

export async function render(root, api) {
  const rows = h("div", {});
  const verdict = h("div", { "aria-live": "polite" });
  const found = h("div", {});
  const go = h("button", { class: "primary", type: "button", onclick: () => examine() }, "Examine everything");
  let drawn = "";

  function counted(all) {
    const [failed, warned] = ["failed", "warning"].map((state) => all.filter((row) => row.state === state).length);
    if (failed) return h("p", { class: "failure", role: "alert" }, `${failed} failed${warned ? `, ${warned} to look at` : ""}.`);
    return warned ? h("p", { class: "warning" }, `Nothing failed; ${warned} to look at.`) : h("p", { class: "success" }, "Everything that was asked works.");
  }

  const shown = (all, caption) => table([
    { title: "", cell: (row) => badge(...(STATES[row.state] ?? STATES.unknown)), class: "nowrap" },
    { title: "What", cell: (row) => visible(row.name), class: "nowrap" },
    { title: "Found", cell: (row) => visible(row.detail), class: "words" },
    { title: "What to do", cell: (row) => (row.next_step ? visible(row.next_step) : "–"), class: "words" },
  ], [...all].sort((left, right) => RANK.indexOf(left.state) - RANK.indexOf(right.state)), { caption, key: (row) => row.name });

  async function refresh() {
    const standing = await api.get("/health");
    const now = JSON.stringify(standing.rows);
    if (now === drawn) return;
    drawn = now;
    fill(verdict, counted(standing.rows));
    fill(rows, shown(standing.rows, "As it stands now"));
  }

  async function examine() {
    go.disabled = true;
    fill(found, h("p", { class: "loading" }, "Probing the sandbox, verifying the log, asking the witness…"));
    try {
      const examined = await api.get("/health/examination");
      fill(found, h("p", { class: "note" }, "examined ", when(examined.now)), counted(examined.rows), shown(examined.rows, "What the examination found"));
      await refresh();
    } catch (error) {
      if (error.status !== 401) fill(found, failure(error));
    } finally {
      go.disabled = false;
    }
  }

  root.append(h("h1", {}, "Health"), verdict, rows,
    h("div", { class: "row examine" }, h("h2", {}, "Examination"), h("span", { class: "push" }), go),
    h("p", { class: "note" }, "As ", h("code", {}, "neural-trader doctor"), ": canaries attack the sandbox, the whole log is verified by the server, the witness and the bus are asked. This takes some seconds, longer on a large log."),
    found);
  await refresh();
  return { refresh, everySeconds: 5 };
}
