/**
 * The server's JSON. Each request shows the session's token beside the cookie; failures come as ApiError.
 *
 * The token is kept where only pages of this very address can read it, its port included. A cookie is not.
 */

export class ApiError extends Error {
  constructor({ code, what, next_step: nextStep }, status) {
    super(`${code}: ${what}; ${nextStep}`);
    Object.assign(this, { code, what, nextStep, status });
  }
}

const ROOT = "/console/api";
const KEPT = "neural-trader-console-token";
let token = localStorage.getItem(KEPT) ?? "";

function keep(next) {
  token = next;
  next ? localStorage.setItem(KEPT, next) : localStorage.removeItem(KEPT);
}

const headers = (shown = token) => ({ "Content-Type": "application/json", "X-Console-Token": shown });

async function ask(path, options) {
  let response;
  try {
    response = await fetch(ROOT + path, { credentials: "same-origin", cache: "no-store", redirect: "error", ...options });
  } catch {
    throw new ApiError({ code: "no_connection", what: "the server does not answer", next_step: "is it running?" }, 0);
  }
  let document;
  try {
    document = await response.json();
  } catch {
    document = { error: { code: `http_${response.status}`, what: "the server's answer is not JSON", next_step: "look at its log" } };
  }
  if (!response.ok) {
    const known = document.error ?? { code: `http_${response.status}`, what: "the server refused", next_step: "try again" };
    const error = new ApiError(typeof known === "object" && known.message ? { code: "refused", what: known.message, next_step: "try again" } : known, response.status);
    if (response.status === 401 && token) {
      keep("");
      window.dispatchEvent(new CustomEvent("console:loggedout", { detail: error }));
    }
    throw error;
  }
  return document;
}

export const api = {
  /** What a path below /console/api answers; `query` holds its parameters. */
  get(path, query = {}) {
    const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
    const words = new URLSearchParams(given).toString();
    return ask(path + (words ? `?${words}` : ""), { method: "GET", headers: headers() });
  },

  /** Asks for a change. */
  async post(path, body = {}) {
    const answer = await ask(path, {
      method: "POST",
      headers: headers(),
      body: JSON.stringify(body),
    });
    window.dispatchEvent(new CustomEvent("console:changed"));
    return answer;
  },

  /** Ends the session, here and on the server. */
  async logout() {
    const shown = token;
    keep("");  // what a page still asks for is refused from now on, and says nothing of it
    await ask("/logout", { method: "POST", headers: headers(shown), body: "{}" });
  },

  /** Who is logged in; ApiError 401 where nobody is. */
  session: () => ask("/session", { method: "GET", headers: headers() }),

  /** Uses a login link up. */
  async login(link) {
    keep((await ask("/login", { method: "POST", headers: headers(""), body: JSON.stringify({ link }) })).token);
  },
};

/**
 * Does something now and again every so many seconds while the page can be seen; returns what ends it.
 * The next round begins when the last one has ended: a slow server is not asked twice at once.
 */
export function repeat(work, seconds) {
  let timer = 0;
  let over = false;
  const round = async () => {
    clearTimeout(timer);
    if (!over && document.visibilityState === "visible") {
      try {
        await work();
      } finally {
        if (!over) timer = setTimeout(round, seconds * 1000);
      }
    }
  };
  const seen = () => document.visibilityState === "visible" && round();
  document.addEventListener("visibilitychange", seen);
  round();
  return () => {
    over = true;
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", seen);
  };
}
