// One client of the TypeScript SDK against a server: what it lists, what a call and a refusal look like to it.
//   node smoke.mjs v1|v2 URL            over streamable HTTP
//   node smoke.mjs v1|v2 COMMAND ARG…   over stdio
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [era, where, ...words] = process.argv.slice(2);
// The packages are not installed beside this file: NODE_PATH, which ES modules ignore, says where they are.
const require = createRequire(join(process.env.INTEROP_PACKAGES, "index.js"));
const load = (name) => import(pathToFileURL(require.resolve(name)));

const root = era === "v1" ? "@modelcontextprotocol/sdk/client" : "@modelcontextprotocol/client";
const { Client } = await load(era === "v1" ? `${root}/index.js` : root);
let transport;
if (words.length > 0) {
  const { StdioClientTransport } = await load(era === "v1" ? `${root}/stdio.js` : `${root}/stdio`);
  transport = new StdioClientTransport({ command: where, args: words, env: process.env, stderr: "ignore" });
} else {
  const { StreamableHTTPClientTransport } = await load(era === "v1" ? `${root}/streamableHttp.js` : root);
  transport = new StreamableHTTPClientTransport(new URL(where));
}
const options = era === "v1" ? {} : { versionNegotiation: { mode: "auto" } };
const client = new Client({ name: "smoke", version: "1" }, options);
await client.connect(transport);
const { tools } = await client.listTools();
const found = await client.callTool({ name: "market_search", arguments: { query: "AAPL" } });
const refused = await client.callTool({ name: "market_get_bars", arguments: { symbol: "AAPL", limt: 5 } });
const { resourceTemplates } = await client.listResourceTemplates();
console.log(
  JSON.stringify({
    server: client.getServerVersion(),
    version: client.getNegotiatedProtocolVersion?.() ?? transport.protocolVersion ?? null,
    tools: tools.map((tool) => tool.name),
    described: tools.every((tool) => tool.description && tool.inputSchema.type === "object"),
    structured: found.structuredContent,
    text: found.content[0].text,
    refused: { isError: refused.isError, text: refused.content[0].text },
    templates: resourceTemplates.map((template) => template.uriTemplate),
  }),
);
await client.close();
