/** The client against a real server: over HTTP where `DESK_URL` says where it is, else over stdio by `DESK_COMMAND`. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { NeuralTrader, ToolError } from "../src/index.js";
import type { ToolResult } from "../src/index.js";

const url = process.env["DESK_URL"];
const handle = process.env["DESK_HANDLE"] ?? "";
const rows = Number(process.env["DESK_ROWS"]);
let desk: NeuralTrader;

before(async () => {
  if (url !== undefined) {
    desk = await NeuralTrader.http({ url });
    return;
  }
  const [command = "", ...args] = JSON.parse(process.env["DESK_COMMAND"] ?? "[]") as string[];
  desk = await NeuralTrader.stdio({ command, args, stderr: "ignore" });
});

after(async () => desk.close());

function refusal(code: string, what: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof ToolError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, what);
    return true;
  };
}

test("the newest protocol is spoken, and every tool that is served has types", async () => {
  assert.equal(desk.protocolVersion, "2026-07-28");
  const names = await desk.toolNames();
  assert.ok(names.includes("status_get") && names.includes("market_get_bars"));
});

test("a call answers what its type says", async () => {
  const status: ToolResult<"status_get"> = await desk.call("status_get");
  assert.equal(status.mode, "paper");
  const found = await desk.call("market_search", { query: "nothing has this name", limit: 3 });
  assert.deepEqual(found.instruments, []);
});

test("a refusal is an error with its code and the next step", async () => {
  await assert.rejects(desk.call("market_get_bars", { symbol: "NOPE" }), (error) => {
    assert.ok(error instanceof ToolError);
    assert.match(error.code, /^[a-z_]+$/);
    assert.ok(error.what.length > 0 && error.nextStep.length > 0, error.message);
    return true;
  });
  const misspelled = { query: "A", limt: 3 } as { query: string };
  await assert.rejects(desk.call("market_search", misspelled), refusal("unknown_argument", /did you mean limit/));
});

test("a call that is aborted ends", async () => {
  await assert.rejects(desk.call("status_get", {}, { signal: AbortSignal.abort(new Error("enough")) }), /enough/);
  assert.equal((await desk.call("status_get")).mode, "paper", "the connection outlives it");
});

test("pages bring all rows of a handle, in order", async () => {
  const closes: unknown[] = [];
  for await (const columns of desk.pages(handle, ["close"])) {
    assert.deepEqual(Object.keys(columns), ["close"]);
    closes.push(...(columns["close"] ?? []));
  }
  assert.equal(closes.length, rows);
  assert.deepEqual(closes.slice(0, 3), [0, 0.5, null]);
});

test("a table brings the same, without a copy of its columns", { skip: url === undefined }, async () => {
  const table = await desk.table(handle);
  assert.equal(table.numRows, rows);
  assert.deepEqual(table.schema.names, ["time", "close", "side"]);
  const paged: Record<string, unknown[]> = {};
  for await (const columns of desk.pages(handle)) {
    for (const [name, values] of Object.entries(columns)) (paged[name] ??= []).push(...values);
  }
  assert.deepEqual([...(table.getChild("close") ?? [])], paged["close"]);
  assert.deepEqual([...(table.getChild("side") ?? [])], paged["side"]);
  const times = [...(table.getChild("time") ?? [])].map((time) => new Date(Number(time)).toISOString().slice(0, 19));
  assert.deepEqual(times, paged["time"]?.map((time) => String(time).slice(0, 19)));
  const buffers = new Set(table.batches.flatMap((batch) => batch.data.children.map((child) => child.values?.buffer)));
  buffers.delete(undefined);
  assert.equal(buffers.size, 1, "every column looks into the one buffer that came over the wire");
});

test("what stdio cannot do says what can", { skip: url !== undefined }, async () => {
  await assert.rejects(desk.table(handle), refusal("http_only", /pages\(handle\)/));
});

test("a handle that there is not is refused with the desk's own words", async () => {
  const missing = "bars-0000000000000000";
  const asked = url === undefined ? desk.call("artifact_read", { handle: missing }) : desk.table(missing);
  await assert.rejects(asked, refusal("unknown_handle", /;/));
});

test("a key is never sent in the clear to another machine", async () => {
  const sent = NeuralTrader.http({ url: "http://desk.example.com:8765", apiKey: "ntk_secret" });
  await assert.rejects(sent, refusal("insecure_address", /https/));
});
