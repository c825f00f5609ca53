export { NeuralTrader } from "./client.js";
export type { CallOptions, HttpOptions, StdioOptions } from "./client.js";
export { ToolError } from "./errors.js";
export type { ToolArguments, ToolName, ToolResult, Tools } from "./tools.js";
