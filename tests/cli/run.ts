/** Runs the real command line in a process of its own, with the permissions that ./tensaur gives it. */
import config from "../../deno.json" with { type: "json" };

const root = new URL("../../", import.meta.url);

/** What a run gave. */
export interface Ran {
  code: number;
  stdout: string;
  stderr: string;
}

/** How to run. */
export interface RunOptions {
  /** What comes on stdin; default nothing. */
  stdin?: string;
  env?: Record<string, string>;
  /** More permissions of deno. */
  flags?: string[];
}

/** Permissions of the task "cli", without the home folder that only a shell can fill in. */
function permissions(): string[] {
  const words = config.tasks.cli.replaceAll("'", "").split(" ").slice(2);
  return words.filter((word) => word.startsWith("--") && !word.includes("$HOME"));
}

/** The command for `args`. */
export function command(args: readonly string[], { env, flags = [] }: RunOptions = {}): Deno.Command {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-check", ...permissions(), ...flags, "cli.ts", ...args],
    cwd: root,
    env: { NO_COLOR: "1", ...env },
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  });
}

/** Runs `tensaur ARGS` to its end. */
export async function tensaur(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const child = command(args, options).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(options.stdin ?? ""));
  await writer.close();
  return text(await child.output());
}

/** Output as text, without what deno itself says when it fetches a package that is imported only when needed. */
export function text({ code, stdout, stderr }: Deno.CommandOutput): Ran {
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr).replace(/^Download .*\n/gm, "") };
}

/** What stands in deno.json. */
export const version: string = config.version;
