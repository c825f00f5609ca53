/**
 * The approver's key while this page is open: in memory only, unreadable, and forgotten after a quarter of an
 * hour without use, at logout, and when the page goes.
 */

const KEPT_MS = 15 * 60 * 1000;
let kept = null;
let timer = 0;
const listeners = new Set();

function set(key) {
  clearTimeout(timer);
  kept = key;
  if (key) timer = setTimeout(() => set(null), KEPT_MS);
  for (const each of listeners) each();
}

export const keyring = {
  /** The key, or null; each use keeps it a quarter of an hour longer. */
  use() {
    if (kept) set(kept);
    return kept;
  },
  get name() {
    return kept?.name ?? null;
  },
  keep: (key) => set(key),
  forget: () => set(null),
  /** Calls back when a key comes or goes; returns what ends that. */
  watch(listener) {
    listeners.add(listener);
    return () => listeners.delete(listener);
  },
};

window.addEventListener("console:loggedout", () => set(null));
