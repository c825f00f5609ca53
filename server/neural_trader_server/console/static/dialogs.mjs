/** Dialogs that every page may need: the switch, the keyboard's help, and one question with a reason. */

import { failure, fill, h } from "./dom.mjs";

/** Opens a modal dialog; the browser keeps the focus in it, and Escape closes it. */
export function openDialog(title, build) {
  const dialog = h("dialog", { "aria-label": title });
  const close = () => dialog.close();
  dialog.append(h("h2", {}, title), build(close));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/**
 * Asks once, for words that go into the audit log. `act` gets them; what it throws is shown, and the
 * question stays open.
 */
export function reasonDialog({ title, about, label, action, kind = "primary", suggestion = "", act }) {
  openDialog(title, (close) => {
    const problem = h("div", {});
    const words = h("input", { type: "text", name: "reason", required: true, maxlength: "500", autocomplete: "off", value: suggestion, autofocus: true });
    const go = h("button", { class: kind, type: "submit" }, action);
    const send = async (event) => {
      event.preventDefault();
      go.disabled = true;
      try {
        await act(words.value.trim());
        close();
      } catch (error) {
        fill(problem, failure(error));
        go.disabled = false;
      }
    };
    return h("form", { onsubmit: send }, about, h("label", {}, label, words), problem,
      h("div", { class: "actions" }, h("button", { class: "quiet", type: "button", onclick: close }, "Back"), go));
  });
}

/** The kill switch: one confirmation, with the reason. Releasing is left to a person at the command line. */
export function haltDialog(api, after) {
  if (document.querySelector("dialog[open]")) return;
  reasonDialog({
    title: "Halt all trading?",
    about: [
      h("p", {}, "New orders are refused from this moment on, and working orders are canceled, for every agent and account."),
      h("p", { class: "note" }, "To trade again, a person runs ", h("code", {}, "neural-trader resume"), " on the desk's machine."),
    ],
    label: "Why (it goes into the audit log)",
    action: "Halt trading now",
    kind: "danger",
    act: async (reason) => {
      const halted = await api.post("/halt", { reason });
      await after();
      openDialog("Trading is halted", (close) => h("div", {},
        h("p", {}, halted.canceled.length ? `Canceled: ${halted.canceled.join(", ")}.` : "No order was working."),
        halted.working.length ? h("p", { class: "failure" }, `No answer yet, they may still fill: ${halted.working.join(", ")}.`) : null,
        h("div", { class: "actions" }, h("button", { class: "primary", type: "button", autofocus: true, onclick: close }, "Close"))));
    },
  });
}

/** What the keyboard does. */
export function helpDialog(pages) {
  if (document.querySelector("dialog[open]")) return;
  const row = (keys, what) => h("tr", {}, h("td", {}, keys.map((key) => [h("kbd", {}, key), " "])), h("td", {}, what));
  openDialog("Keyboard", (close) => h("div", {},
    h("table", { class: "keys" }, h("tbody", {},
      pages.map((page) => row(["g", page.key], page.title)),
      row(["!"], "Halt trading"), row(["?"], "This help"), row(["Esc"], "Close a dialog"))),
    h("div", { class: "actions" }, h("button", { class: "primary", type: "button", autofocus: true, onclick: close }, "Close"))));
}
