/** A desk, as a program in Node sees it: every tool typed by its own schema, every refusal a `ToolError`. */

import { Client, SdkHttpError, StreamableHTTPClientTransport, UnauthorizedError } from "@modelcontextprotocol/client";
import type { Transport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { tableFromIPC } from "apache-arrow";
import type { Table } from "apache-arrow";

import { ToolError } from "./errors.js";
import type { ToolArguments, ToolName, ToolResult } from "./tools.js";

const LOOPBACK = new Set(["127.0.0.1", "localhost", "[::1]"]);
const VERSION = "0.1.0";

export interface StdioOptions {
  /** The command that serves; `neural-trader` on the PATH where none is given. */
  command?: string;
  /** Its words; `["serve"]` where none are given. */
  args?: string[];
  /** What it finds in its environment beside what any child gets, such as `NEURAL_TRADER_HOME`. */
  env?: Record<string, string>;
  /** Where its log goes: `"inherit"` (the default), `"ignore"` or `"pipe"`. */
  stderr?: "inherit" | "ignore" | "pipe";
}

export interface HttpOptions {
  /** Of the server, with or without `/mcp`. */
  url: string | URL;
  /** An API key (`ntk_…`) or an access token; sent to that server alone, and never in the clear beyond this machine. */
  apiKey?: string;
}

export interface CallOptions {
  /** Cancels the call, here and at the desk. */
  signal?: AbortSignal;
  /** Milliseconds; 60,000 where none are given. */
  timeoutMs?: number;
  /** Told of how much is done, 0 to 1, by the tools that tell it. */
  onProgress?: (fraction: number) => void;
}

type Given<N extends ToolName> = {} extends ToolArguments<N>
  ? [args?: ToolArguments<N>, options?: CallOptions]
  : [args: ToolArguments<N>, options?: CallOptions];

export class NeuralTrader {
  readonly #client: Client;
  readonly #origin: string | null;
  readonly #headers: Record<string, string>;

  private constructor(client: Client, origin: string | null, headers: Record<string, string>) {
    this.#client = client;
    this.#origin = origin;
    this.#headers = headers;
  }

  /** Starts a server of this machine and speaks to it through its stdin and stdout; `close` ends it. */
  static async stdio(options: StdioOptions = {}): Promise<NeuralTrader> {
    const { command = "neural-trader", args = ["serve"], env = {}, stderr = "inherit" } = options;
    const inherited = Object.fromEntries(Object.entries(process.env).filter(([, value]) => value !== undefined));
    const given = { ...(inherited as Record<string, string>), ...env };
    const transport = new StdioClientTransport({ command, args, env: given, stderr });
    return new NeuralTrader(await connected(transport), null, {});
  }

  /**
   * Speaks to a server over streamable HTTP.
   *
   * @throws ToolError `insecure_address` where a key would travel in the clear; `key_invalid` where the desk takes none.
   */
  static async http(options: HttpOptions): Promise<NeuralTrader> {
    const url = new URL(options.url);
    if (url.pathname === "/" || url.pathname === "") url.pathname = "/mcp";
    if (options.apiKey && url.protocol !== "https:" && !LOOPBACK.has(url.hostname)) {
      throw new ToolError("insecure_address", `${url.host} would be sent the key in the clear`, "use https");
    }
    const headers = options.apiKey ? { Authorization: `Bearer ${options.apiKey}` } : ({} as Record<string, string>);
    const transport = new StreamableHTTPClientTransport(url, { requestInit: { headers, redirect: "error" } });
    return new NeuralTrader(await connected(transport), url.origin, headers);
  }

  /** The protocol's revision that both sides agreed on. */
  get protocolVersion(): string | undefined {
    return this.#client.getNegotiatedProtocolVersion();
  }

  /** The names of the tools that this server serves to this caller. */
  async toolNames(): Promise<string[]> {
    const names: string[] = [];
    let cursor: string | undefined;
    do {
      const page = await this.#client.listTools(cursor === undefined ? {} : { cursor });
      names.push(...page.tools.map((tool) => tool.name));
      cursor = page.nextCursor;
    } while (cursor !== undefined);
    return names;
  }

  /**
   * Calls a tool.
   *
   * @throws ToolError whatever the desk refuses, with its next step.
   */
  async call<N extends ToolName>(name: N, ...given: Given<N>): Promise<ToolResult<N>> {
    const [args = {}, options = {}] = given;
    const { onProgress, signal, timeoutMs } = options;
    const result = await this.#client.callTool(
      { name, arguments: args as Record<string, unknown> },
      {
        ...(signal && { signal }),
        ...(timeoutMs !== undefined && { timeout: timeoutMs }),
        ...(onProgress && { onprogress: (told) => onProgress(told.progress / (told.total ?? 1)) }),
      },
    );
    if (result.isError) {
      const first = result.content[0];
      throw ToolError.parse(first?.type === "text" ? first.text : "");
    }
    return result.structuredContent as ToolResult<N>;
  }

  /**
   * Fetches all rows behind a handle as an Arrow table, over HTTP. The columns lie in the bytes as they came:
   * nothing is parsed, converted or copied.
   *
   * @throws ToolError `http_only` over stdio, which has `pages`; else what the desk refuses.
   */
  async table(handle: string, options: Pick<CallOptions, "signal"> = {}): Promise<Table> {
    if (this.#origin === null) {
      throw new ToolError("http_only", "stdio carries no files", "read pages(handle), or serve over HTTP");
    }
    const address = `${this.#origin}/artifacts/${encodeURIComponent(handle)}`;
    const answer = await fetch(address, {
      headers: this.#headers,
      redirect: "error",
      ...(options.signal && { signal: options.signal }),
    });
    if (!answer.ok) throw await refused(answer);
    return tableFromIPC(new Uint8Array(await answer.arrayBuffer()));
  }

  /** Reads the rows behind a handle page by page, in columns, over stdio as over HTTP. */
  async *pages(handle: string, columns?: string[]): AsyncGenerator<ToolResult<"artifact_read">["columns"]> {
    let cursor: string | null = null;
    do {
      const args: ToolArguments<"artifact_read"> = { handle, limit: 1000 };
      if (columns) args.columns = columns;
      if (cursor !== null) args.cursor = cursor;
      const page: ToolResult<"artifact_read"> = await this.call("artifact_read", args);
      yield page.columns;
      cursor = page.next_cursor;
    } while (cursor !== null);
  }

  /** Ends the connection, and over stdio the server. */
  async close(): Promise<void> {
    await this.#client.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

async function connected(transport: Transport): Promise<Client> {
  const client = new Client(
    { name: "neural-trader-client", version: VERSION },
    { versionNegotiation: { mode: "auto" } },
  );
  try {
    await client.connect(transport);
  } catch (error) {
    await client.close().catch(() => undefined);
    if (error instanceof UnauthorizedError || (error instanceof SdkHttpError && error.status === 401)) {
      const next = "give apiKey; a person issues one: neural-trader identity key issue";
      throw new ToolError("key_invalid", "the desk does not take this key, or asks for one", next);
    }
    throw error;
  }
  return client;
}

async function refused(answer: Response): Promise<ToolError> {
  const text = await answer.text();
  try {
    const { code, what, next_step: next } = JSON.parse(text).error;
    if (typeof code === "string" && typeof what === "string") return new ToolError(code, what, String(next ?? ""));
  } catch {
    // not the desk's own words: a proxy's, perhaps
  }
  return new ToolError("http_failed", `HTTP status ${answer.status}`, "see the server's log");
}
