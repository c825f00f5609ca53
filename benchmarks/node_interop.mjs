// What a program in Node waits for, by the way it takes: measured inside Node, printed as one line of JSON.
//   node node_interop.mjs CLIENT way HANDLE ROWS WHERE…     way: stdio | http | cli
import { execFileSync } from "node:child_process";
import { performance } from "node:perf_hooks";

const [client, way, handle, rows, ...where] = process.argv.slice(2);
const { NeuralTrader } = await import(client);
const CALLS = 300;
const STARTS = 9;
const PAGES = 100;

async function timed(count, action) {
  await action();
  const took = [];
  for (let number = 0; number < count; number++) {
    const start = performance.now();
    await action();
    took.push(performance.now() - start);
  }
  took.sort((left, right) => left - right);
  return { p50_ms: took[Math.floor(count * 0.5)], p99_ms: took[Math.floor(count * 0.99)] };
}

const [command, ...args] = where;
if (way === "cli") {
  const call = () => JSON.parse(execFileSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }));
  console.log(JSON.stringify({ call: await timed(STARTS, async () => call()) }));
  process.exit(0);
}
const desk = way === "http" ? await NeuralTrader.http({ url: command }) : await NeuralTrader.stdio({ command, args, stderr: "ignore" });
const found = { call: await timed(CALLS, () => desk.call("orders_list", {})) };

let read = 0;
const start = performance.now();
for await (const columns of desk.pages(handle)) {
  read += Object.values(columns)[0].length;
  if (read >= PAGES * 1000) break;
}
found.pages = { rows: read, rows_per_s: read / ((performance.now() - start) / 1000) };

if (way === "http") {
  let table;
  const whole = await timed(5, async () => { table = await desk.table(handle); });
  if (table.numRows !== Number(rows)) throw new Error(`${table.numRows} rows`);
  const summing = performance.now();
  let sum = 0;
  for (const batch of table.getChild("close").data) for (const value of batch.values) sum += value;
  found.table = { ...whole, rows_per_s: Number(rows) / (whole.p50_ms / 1000), sum_ms: performance.now() - summing, sum };
}
await desk.close();
console.log(JSON.stringify(found));
