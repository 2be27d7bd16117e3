/**
 * Where the command line writes: results to stdout, everything else to stderr.
 *
 * @module
 */
import { styleText } from "node:util";
import { readEnv } from "../weights/hub_settings.ts";
import { ProgressBar } from "./progress_bar.ts";

/** Flags that every command has. */
export interface UiFlags {
  /** Nothing on stderr but errors. */
  quiet?: boolean;
  /** More on stderr. */
  verbose?: boolean;
  /** Results as JSON. */
  json?: boolean;
  /** When to colour. */
  color?: "auto" | "always" | "never";
}

type Format = Parameters<typeof styleText>[0];
type Stream = typeof Deno.stdout | typeof Deno.stderr;

const encoder = new TextEncoder();

/** Output of one command. */
export class Ui {
  /** What long work reports to. */
  readonly bar: ProgressBar;
  readonly #flags: UiFlags;

  /** Output as `flags` ask for it. */
  constructor(flags: UiFlags = {}) {
    this.#flags = flags;
    this.bar = new ProgressBar({
      write: (text) => flags.quiet || write(Deno.stderr, text),
      terminal: Deno.stderr.isTerminal(),
      columns: () => columnsOf(Deno.stderr),
    });
  }

  /** Writes results, as they are. */
  print(text: string): void {
    this.bar.clear();
    write(Deno.stdout, text);
  }

  /** Writes a result as one line of JSON; as an indented one on a terminal. */
  printJson(value: unknown): void {
    this.print(`${JSON.stringify(value, null, Deno.stdout.isTerminal() ? 2 : undefined)}\n`);
  }

  /** Writes a line for humans to stderr, unless `--quiet`. */
  note(line: string): void {
    if (!this.#flags.quiet) this.#line(line);
  }

  /** Writes a line to stderr with `--verbose`. */
  detail(line: string): void {
    if (this.#flags.verbose) this.#line(this.style("dim", line));
  }

  /** Writes a warning to stderr, unless `--quiet`. */
  warn(line: string): void {
    this.note(`${this.style("yellow", "warning:")} ${line}`);
  }

  /** `text` in colours if `stream` shows them. */
  style(format: Format, text: string, stream: Stream = Deno.stderr): string {
    return showsColor(stream, this.#flags.color) ? styleText(format, text, { validateStream: false }) : text;
  }

  #line(line: string): void {
    this.bar.clear();
    write(Deno.stderr, `${line}\n`);
  }
}

/** Whether colours go to `stream`: `--color`, then NO_COLOR, then FORCE_COLOR and CLICOLOR_FORCE, then the terminal. */
export function showsColor(stream: Stream, when: UiFlags["color"] = "auto"): boolean {
  if (when !== "auto") return when === "always";
  if (readEnv("NO_COLOR")) return false;
  const forced = readEnv("FORCE_COLOR") ?? readEnv("CLICOLOR_FORCE");
  return forced === undefined ? stream.isTerminal() : forced !== "0";
}

/** Width of the terminal that `stream` is; 80 where it is none. */
export function columnsOf(stream: Stream): number {
  try {
    return stream.isTerminal() ? Deno.consoleSize().columns : 80;
  } catch {
    return 80;
  }
}

/** Writes all of `text`, which one system call may not. */
export function write(stream: Stream, text: string): void {
  for (let rest = encoder.encode(text); rest.length > 0;) rest = rest.subarray(stream.writeSync(rest));
}
