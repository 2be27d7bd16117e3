/**
 * Benches in processes of their own: one that crashes or hangs costs its own figures only, and one that is interrupted
 * leaves nothing running.
 */

/** How to run one. */
export interface RunOptions {
  /** Variables beside the process's own. */
  env?: Record<string, string>;
  /** Milliseconds. Default 120,000. */
  limit?: number;
  /** Where. Default: the present folder. */
  cwd?: string | URL;
  /** Called with each line as it is printed. */
  line?: (text: string) => void;
}

const LIMIT = 120_000, CLOSING = 2000; // ms; a process that is gone may have left its pipes to others
const running = new Set<Deno.ChildProcess>();
let stopped = false;

/** A process that failed or took too long (`late`), with what it had printed. */
export class ProcessError extends Error {
  /** Use {@linkcode output}. */
  constructor(message: string, readonly stdout: string, readonly late = false) {
    super(message);
  }
}

/** The user wants no more. */
export class Interrupted extends Error {
  /** Use {@linkcode stopOnInterrupt}. */
  constructor() {
    super("Interrupted");
  }
}

/** From now on Ctrl-C ends what runs, and {@linkcode output} throws {@linkcode Interrupted}; a second one ends all. */
export function stopOnInterrupt(): void {
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    Deno.addSignalListener(signal, () => {
      if (stopped) Deno.exit(130);
      stopped = true;
      for (const child of running) kill(child);
    });
  }
}

/** What `command` prints; throws with the end of its errors where it fails or takes too long. */
export async function output(command: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  const { env, limit = LIMIT, cwd } = options;
  if (stopped) throw new Interrupted();
  const child = new Deno.Command(command, { args: [...args], env, cwd, stdout: "piped", stderr: "piped" }).spawn();
  let late = false;
  const timer = setTimeout(() => (late = true, kill(child)), limit);
  running.add(child);
  const out = gather(child.stdout, options.line), errors = gather(child.stderr);
  const { success, code, signal } = await child.status;
  running.delete(child);
  clearTimeout(timer);
  const stdout = await out(), stderr = await errors();
  if (stopped) throw new Interrupted();
  if (success) return stdout;
  const why = late ? `took more than ${(limit / 1000).toFixed(0)} s` : `ended with ${signal ?? `code ${code}`}`;
  const last = stderr.trim().split("\n").filter((line) => /\S/.test(line) && !/^\W*Warning/i.test(line));
  const script = args.find((arg) => /\.\w+$/.test(arg)) ?? command, detail = last.slice(-2).join(" ").slice(0, 200);
  throw new ProcessError(`${script.split("/").at(-1)} ${why}${detail && `: ${detail}`}`, stdout, late);
}

/** What the script at `path` prints under Deno with all permissions. */
export function denoRun(path: string | URL, args: readonly string[] = [], options: RunOptions = {}): Promise<string> {
  const script = path instanceof URL ? decodeURIComponent(path.pathname) : path;
  return output(Deno.execPath(), ["run", "--allow-all", "--no-check", "--quiet", script, ...args], options);
}

/** The lines of JSON objects in `text`; a last line that broke off is left out. */
export function jsonLines<T>(text: string): T[] {
  return text.split("\n").filter((line) => line.startsWith("{") && line.endsWith("}")).map((line) => JSON.parse(line));
}

/** Native code may not answer to anything less. */
function kill(child: Deno.ChildProcess): void {
  try {
    child.kill("SIGKILL");
  } catch { /* it has ended by itself */ }
}

/** Reads `stream` from now on; what is returned gives the text, soon after the process has ended. */
function gather(stream: ReadableStream<Uint8Array>, line?: (text: string) => void): () => Promise<string> {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let text = "", said = 0;
  const read = async () => {
    for (let part; !(part = await reader.read()).done;) {
      text += part.value;
      for (let end; line && (end = text.indexOf("\n", said)) !== -1; said = end + 1) line(text.slice(said, end));
    }
  };
  const all = read();
  return async () => {
    const { promise, resolve } = Promise.withResolvers<void>(), timer = setTimeout(resolve, CLOSING);
    await Promise.race([all, promise]);
    clearTimeout(timer);
    await reader.cancel();
    return text;
  };
}
