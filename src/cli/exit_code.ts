/**
 * From an error to an exit code and to what the user reads.
 *
 * @module
 */
import { CommanderError } from "commander";
import * as errors from "../errors.ts";
import { readEnv } from "../weights/hub_settings.ts";
import { Ui, type UiFlags } from "./ui.ts";

/** What the process exits with. */
export const EXIT = { ok: 0, other: 1, usage: 2, model: 3, device: 4, interrupted: 130 } as const;

const CODES: readonly [kinds: readonly (new (...args: never[]) => Error)[], code: number][] = [
  [[errors.AbortError], EXIT.interrupted],
  [[errors.ValueError], EXIT.usage],
  [[errors.GpuError, errors.DeviceLostError, errors.OutOfMemoryError], EXIT.device],
  [[
    errors.ModelFormatError,
    errors.ModelPathError,
    errors.IntegrityError,
    errors.DownloadError,
    errors.TokenizerError,
    errors.TemplateError,
    errors.LimitError,
    errors.NotSupportedError,
  ], EXIT.model],
  [[
    Deno.errors.NotFound,
    Deno.errors.PermissionDenied,
    Deno.errors.NotCapable,
    Deno.errors.IsADirectory,
    Deno.errors.NotADirectory,
  ], EXIT.model],
];

/** The exit code of `error`. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
  if (error instanceof Deno.errors.BrokenPipe) return EXIT.ok; // who reads us has read enough
  return CODES.find(([kinds]) => kinds.some((kind) => error instanceof kind))?.[1] ?? EXIT.other;
}

/** Writes `error` to stderr: the message, the way out and, with `--verbose` or TENSAUR_DEBUG, where it came from. */
export function reportError(error: unknown, flags: UiFlags): void {
  const silent = error instanceof CommanderError || error instanceof errors.AbortError ||
    error instanceof Deno.errors.BrokenPipe;
  const debug = flags.verbose || readEnv("TENSAUR_DEBUG") !== undefined;
  if (silent && !debug) return;
  const ui = new Ui({ ...flags, quiet: false });
  const message = error instanceof Error ? error.message : String(error);
  ui.note(`${ui.style(["red", "bold"], "error:")} ${message}`);
  const hint = hintOf(error);
  if (hint) ui.note(`${ui.style(["cyan", "bold"], "hint:")} ${hint}`);
  for (let at: unknown = error; debug && at instanceof Error; at = at.cause) ui.note(ui.style("dim", at.stack ?? ""));
}

// What the library calls its options, and the flags that set them.
const FLAGS: readonly [option: string, flag: string][] = [
  ["memoryBudget", "--memory-budget"],
  ["chatTemplate", "--chat-template"],
  ["doSample: false", "--temp 0"],
  ['dtype: "float32"', "--dtype float32"],
];

function hintOf(error: unknown): string | undefined {
  if (error instanceof errors.TensaurError) {
    return FLAGS.reduce((hint, [option, flag]) => hint?.replace(option, flag), error.hint);
  }
  if (error instanceof Deno.errors.NotCapable) {
    return "Start it with ./tensaur, which grants what is needed, or add the flag to your deno run.";
  }
  if (exitCodeOf(error) !== EXIT.other || error instanceof Deno.errors.BrokenPipe) return undefined;
  return "This should not happen: run again with --verbose and report what it prints.";
}
