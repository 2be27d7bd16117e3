/** Benches in processes of their own: one that crashes or hangs costs its own figures only. */

/** How to run one. */
export interface RunOptions {
  /** Variables beside the process's own. */
  env?: Record<string, string>;
  /** Milliseconds. Default 120,000. */
  limit?: number;
  /** Where. Default: the present folder. */
  cwd?: string | URL;
}

const LIMIT = 120_000;

/** A process that failed or took too long, with what it had printed. */
export class ProcessError extends Error {
  /** Use {@linkcode output}. */
  constructor(message: string, readonly stdout: string) {
    super(message);
  }
}

/** What `command` prints; throws with the end of its errors where it fails or takes too long. */
export async function output(command: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  const { env, limit = LIMIT, cwd } = options, signal = AbortSignal.timeout(limit);
  const child = new Deno.Command(command, { args: [...args], env, cwd, signal, stdout: "piped", stderr: "piped" });
  const { success, code, stdout, stderr } = await child.output();
  if (success) return new TextDecoder().decode(stdout);
  const why = signal.aborted ? `took more than ${limit / 1000} s` : `ended with code ${code}`;
  const last = new TextDecoder().decode(stderr).trim().split("\n").filter((line) =>
    /\S/.test(line) && !/^Warning/.test(line)
  );
  const script = args.find((arg) => /\.\w+$/.test(arg)) ?? command;
  const message = `${script.split("/").at(-1)} ${why}: ${last.slice(-2).join(" ").slice(0, 200)}`;
  throw new ProcessError(message, new TextDecoder().decode(stdout));
}

/** What the script at `path` prints under Deno with all permissions. */
export function denoRun(path: string | URL, args: readonly string[] = [], options: RunOptions = {}): Promise<string> {
  const script = path instanceof URL ? decodeURIComponent(path.pathname) : path;
  return output(Deno.execPath(), ["run", "--allow-all", "--no-check", "--quiet", script, ...args], options);
}

/** The lines of JSON objects in `text`. */
export function jsonLines<T>(text: string): T[] {
  return text.split("\n").filter((line) => line.startsWith("{")).map((line) => JSON.parse(line));
}
