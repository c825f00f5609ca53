/** What the compiler must refuse: it complains here where a mistake goes through. Never run. */

import type { NeuralTrader } from "../src/index.js";

export async function mistakes(desk: NeuralTrader): Promise<void> {
  // @ts-expect-error no such tool
  await desk.call("market_get_bar", { symbol: "AAPL" });
  // @ts-expect-error the symbol is missing
  await desk.call("market_get_bars", {});
  // @ts-expect-error and so are all arguments
  await desk.call("market_get_bars");
  // @ts-expect-error a misspelled argument
  await desk.call("market_get_bars", { symbol: "AAPL", limt: 3 });
  // @ts-expect-error of another type
  await desk.call("market_get_bars", { symbol: "AAPL", limit: "3" });
  const bars = await desk.call("market_get_bars", { symbol: "AAPL" });
  // @ts-expect-error a result has no such field
  bars.rows;
  // @ts-expect-error there may be no handle
  await desk.table(bars.handle);
  if (bars.handle !== null) await desk.table(bars.handle);
}
