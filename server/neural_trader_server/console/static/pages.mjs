/** The pages in the order of the navigation; `key` follows g on the keyboard. One line each. */
export const PAGES = [
  { name: "overview", title: "Overview", key: "v", load: () => import("./pages/overview.mjs") },
  { name: "approvals", title: "Approvals", key: "a", load: () => import("./pages/approvals.mjs") },
  { name: "orders", title: "Orders", key: "o", load: () => import("./pages/orders.mjs") },
  { name: "strategies", title: "Strategies", key: "s", load: () => import("./pages/strategies.mjs") },
  { name: "backtests", title: "Backtests", key: "b", load: () => import("./pages/backtests.mjs") },
  { name: "memory", title: "Memory", key: "m", load: () => import("./pages/memory.mjs") },
  { name: "audit", title: "Audit log", key: "l", load: () => import("./pages/audit.mjs") },
  { name: "health", title: "Health", key: "h", load: () => import("./pages/health.mjs") },
];

/** Whether there is a page of this name: what another page may link to. */
export const hasPage = (name) => PAGES.some((each) => each.name === name);
