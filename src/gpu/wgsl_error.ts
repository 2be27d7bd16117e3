/**
 * What a WGSL compiler says, brought back to the file and line that it is about.
 *
 * @module
 */
import { GpuError } from "../errors.ts";
import type { Assembled } from "./assemble.ts";

interface Place {
  line: number;
  column: number;
  reason: string;
}

/** The error of a kernel that does not compile: file, line, column and source line of each fault. */
export function compileError(
  key: string,
  messages: readonly GPUCompilationMessage[],
  text: Assembled,
  cause: GPUError,
): GpuError {
  const source = text.code.split("\n");
  const faults = messages.filter((m) => m.type === "error").map((m) => {
    const { line, column, reason } = place(m, source);
    const from = text.lines[line - 1];
    const at = from ? `${from.file}:${from.line}:${column}` : "(no line)";
    return `${at}: ${reason}\n  ${source[line - 1] ?? ""}\n  ${" ".repeat(Math.max(0, column - 1))}^`;
  });
  const why = faults.join("\n") || cause.message.trim();
  return new GpuError(`Cannot compile the kernel ${key} as its WGSL must be right:\n${why}`, { cause });
}

/**
 * Where a message points. naga gives the start of the whole function for a fault inside it and draws the exact place
 * into its text, with the assembled text's line numbers; the last lines of the drawing, after "=", are the reason.
 */
function place(m: GPUCompilationMessage, source: readonly string[]): Place {
  const best: Place = { line: m.lineNum, column: m.linePos, reason: "" };
  const reasons: string[] = [];
  let seen: { line: number; drawing: string } | undefined;
  for (const drawing of m.message.split("\n")) {
    const number = /^\s*(\d+) │/.exec(drawing)?.[1];
    if (number) seen = { line: Number(number), drawing };
    const caret = /^\s*│[^╰]*?(\^+)/.exec(drawing);
    if (caret && seen) {
      const start = seen.drawing.indexOf(source[seen.line - 1] ?? "\n");
      if (start >= 0) Object.assign(best, { line: seen.line, column: drawing.indexOf("^") - start + 1 });
    }
    const reason = /^\s*= (.*)/.exec(drawing)?.[1];
    if (reason) reasons.push(reason);
  }
  const title = m.message.trim().split("\n")[0]!.replace(/^Shader '.*?' parsing error: /, "");
  return { ...best, reason: [title, ...reasons].join("; ") };
}
