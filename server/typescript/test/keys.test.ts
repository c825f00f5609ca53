/** A desk that asks for a key, and one whose tools tell how far they are. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { NeuralTrader, ToolError } from "../src/index.js";
import type { ToolName } from "../src/index.js";

const guarded = process.env["DESK_GUARDED_URL"];
const key = process.env["DESK_KEY"] ?? "";
const slow = process.env["DESK_SLOW_URL"];

test("without its key, or with another, a desk is not entered", { skip: guarded === undefined }, async () => {
  for (const apiKey of [undefined, "ntk_wrong"]) {
    const entered = NeuralTrader.http({ url: guarded ?? "", ...(apiKey !== undefined && { apiKey }) });
    await assert.rejects(entered, (error) => error instanceof ToolError && error.code === "key_invalid" && /identity key issue/.test(error.nextStep));
  }
});

test("with its key it is, for tools and tables", { skip: guarded === undefined }, async () => {
  await using desk = await NeuralTrader.http({ url: guarded ?? "", apiKey: key });
  assert.equal((await desk.call("status_get")).mode, "paper");
  assert.ok((await desk.table(process.env["DESK_HANDLE"] ?? "")).numRows > 0);
});

test("progress is told while it is made", { skip: slow === undefined }, async () => {
  await using desk = await NeuralTrader.http({ url: slow ?? "", apiKey: key });
  const told: number[] = [];
  await desk.call("test_tool_with_progress" as ToolName, {}, { onProgress: (fraction) => told.push(fraction) });
  assert.deepEqual(told, [0, 0.5, 1]);
});
