/**
 * The console's shell: login, navigation, the banner, the switch, and the page that the address names.
 *
 * A page is a module in pages/ with `title` and `async render(root, api, params)`. What render returns may
 * hold `refresh` (called every `everySeconds`, 4 by default, while the page can be seen) and `leave`.
 * To add one, write the module and name it in pages.mjs.
 */

import { ApiError, api, repeat } from "./api.mjs";
import { badge, failure, fill, h, visible } from "./dom.mjs";
import { haltDialog, helpDialog } from "./dialogs.mjs";
import { PAGES } from "./pages.mjs";

const FIRST = PAGES[0].name;

const frame = document.getElementById("console");
let leavePage = () => {};
let endStanding = () => {};
let visit = 0;

async function begin() {
  let shown = null;
  const link = /^#login=([\w-]+)$/.exec(location.hash);
  if (link) {
    // Out of the address bar and the history before anything else.
    history.replaceState(null, "", location.pathname);
    try {
      await api.login(link[1]);
    } catch (error) {
      shown = error;
    }
  }
  try {
    enter(await api.session());
  } catch (error) {
    login(shown ?? (error.status === 401 ? null : error));
  }
}

function login(error) {
  leavePage();
  endStanding();
  leavePage = endStanding = () => {};
  document.title = "Log in · Neural Trader";
  fill(frame, h("main", { class: "login", id: "main", tabindex: "-1" },
    h("img", { src: "/console/static/mark.svg", alt: "", width: "44", height: "44" }),
    h("h1", {}, "Neural Trader"),
    error ? failure(error) : null,
    h("p", {}, "This console lets in whoever holds a login link of this desk. On its machine, run"),
    h("pre", {}, "neural-trader console --print"),
    h("p", {}, "and open the link that it prints. It works once, within five minutes. If the server listens elsewhere than on",
      " 127.0.0.1:8765, say so with ", h("code", {}, `--url ${location.origin}`), "."),
  ));
}

function enter(session) {
  const main = h("main", { id: "main", tabindex: "-1" });
  const banner = h("div", { class: "banner", role: "status", "aria-live": "polite" });
  const count = h("span", { class: "count", hidden: true });
  const links = PAGES.map((page) =>
    h("a", { href: `#/${page.name}`, "data-page": page.name }, page.title, page.name === "approvals" ? count : null));
  const halt = h("button", { class: "halt", type: "button", onclick: () => haltDialog(api, refreshStanding) }, "Halt trading");
  fill(frame,
    h("a", { class: "skip", href: "#main", onclick: (event) => { event.preventDefault(); main.focus(); } }, "Skip to the page"),
    h("header", {},
      h("a", { class: "brand", href: `#/${FIRST}` }, h("img", { src: "/console/static/mark.svg", alt: "", width: "26", height: "26" }), "Neural Trader"),
      banner,
      h("div", { class: "person" },
        halt,
        h("span", { class: "who", title: `roles: ${session.roles.join(", ")}` }, visible(session.person)),
        h("button", { class: "quiet", type: "button", title: "Keyboard (?)", "aria-label": "Keyboard", onclick: () => helpDialog(PAGES) }, "?"),
        h("button", { class: "quiet", type: "button", onclick: logout }, "Log out"))),
    h("nav", { "aria-label": "Pages" }, links),
    main);

  async function refreshStanding() {
    try {
      const standing = await api.get("/standing");
      showStanding(banner, standing);
      count.textContent = standing.waiting ? String(standing.waiting) : "";
      count.hidden = standing.waiting === 0;
      count.setAttribute("aria-label", `${standing.waiting} waiting`);
    } catch (error) {
      if (error.status !== 401) fill(banner, badge("no connection", "bad"), " ", visible(error.what ?? error.message));
    }
  }

  endStanding();
  const endRounds = repeat(refreshStanding, 3);
  window.addEventListener("console:changed", refreshStanding);
  endStanding = () => {
    endRounds();
    window.removeEventListener("console:changed", refreshStanding);
  };
  show();
  window.onhashchange = show;

  async function show() {
    const [name, ...rest] = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
    const page = PAGES.find((each) => each.name === (name || FIRST));
    for (const link of links) {
      const here = link.dataset.page === page?.name;
      here ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
    }
    leavePage();
    leavePage = () => {};
    const mine = ++visit;
    const root = h("div", { class: "page", "data-page": page?.name ?? "none" });
    if (!page) {
      fill(main, h("h1", {}, "No such page"), h("p", {}, "Choose one above."));
      return;
    }
    fill(main, h("p", { class: "loading" }, "Loading…"));
    try {
      const module = await page.load();
      const live = (await module.render(root, api, rest)) ?? {};
      if (mine !== visit) {
        live.leave?.();
        return;
      }
      document.title = `${module.title} · Neural Trader`;
      fill(main, root);
      main.focus({ preventScroll: true });
      window.scrollTo(0, 0);
      const end = live.refresh ? repeatLater(live.refresh, live.everySeconds ?? 4, root) : () => {};
      leavePage = () => { end(); live.leave?.(); };
    } catch (error) {
      if (mine === visit && error.status !== 401) {
        fill(main, h("h1", {}, page.title), failure(error instanceof ApiError ? error : { code: "page_failed", what: error.message, nextStep: "reload the page" }));
      }
    }
  }
}

/** Repeats a page's refresh, the first time after a round's length; what fails is shown above the page, once. */
function repeatLater(work, seconds, root) {
  const note = h("div", { class: "stale", hidden: true });
  root.prepend(note);
  let first = true;
  return repeat(async () => {
    if (first) {
      first = false;
      return;
    }
    try {
      await work();
      note.hidden = true;
    } catch (error) {
      note.hidden = false;
      fill(note, failure(error));
    }
  }, seconds);
}

function showStanding(banner, { mode, broker, halts }) {
  const state = mode === "live" ? badge("LIVE: real money", "live") : badge(`${mode} money`, "good");
  const stands = halts.map((each) =>
    h("span", { class: "halted" },
      badge("HALTED", "bad"), ` ${visible(each.scope)}: ${visible(each.reason)} (${visible(each.by)}) · release: `,
      h("code", {}, visible(each.resume))));
  const shown = JSON.stringify([mode, broker, halts]);
  if (banner.dataset.shown === shown) return;  // said once, not every three seconds
  banner.dataset.shown = shown;
  document.documentElement.dataset.mode = mode;
  document.documentElement.dataset.halted = String(halts.length > 0);
  fill(banner, state, " ", h("span", { class: "venue" }, `at ${visible(broker)}`), stands);
}

async function logout() {
  try {
    await api.logout();
  } finally {
    window.dispatchEvent(new CustomEvent("console:loggedout", { detail: null }));
  }
}

let led = 0;
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, textarea, select, dialog");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !document.querySelector("nav")) return;
  if (event.key === "?") {
    helpDialog(PAGES);
  } else if (event.key === "!") {
    document.querySelector("button.halt").click();
  } else if (event.key === "g") {
    led = Date.now();
    return;
  } else if (Date.now() - led < 1500) {
    const page = PAGES.find((each) => each.key === event.key);
    if (page) location.hash = `#/${page.name}`;
  } else {
    return;
  }
  led = 0;
  event.preventDefault();
});

window.addEventListener("console:loggedout", (event) => login(event.detail));
begin();
