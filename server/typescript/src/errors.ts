/** What a desk refuses: `code: what happened; next step`, taken apart. */

export class ToolError extends Error {
  override readonly name = "ToolError";

  /**
   * @param code What a program tells errors apart by, such as `unknown_symbol`.
   * @param what What happened.
   * @param nextStep What to do about it; empty where the desk names nothing.
   */
  constructor(
    readonly code: string,
    readonly what: string,
    readonly nextStep: string,
  ) {
    super(nextStep ? `${code}: ${what}; ${nextStep}` : `${code}: ${what}`);
  }

  /** Reads the one line of a tool error. */
  static parse(text: string): ToolError {
    const found = /^([a-z][a-z0-9_]*): ([\s\S]*)$/.exec(text.trim());
    if (!found) return new ToolError("tool_failed", text.trim(), "");
    const [, code = "", said = ""] = found;
    const cut = said.indexOf("; ");
    return cut < 0 ? new ToolError(code, said, "") : new ToolError(code, said.slice(0, cut), said.slice(cut + 2));
  }
}
