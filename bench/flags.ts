/** Command-line flags of the benches. */

/** What follows `name` among `args`; undefined where it is not given. */
export function flagValue(name: string, args: readonly string[] = Deno.args): string | undefined {
  const at = args.indexOf(name);
  return at === -1 ? undefined : args[at + 1];
}

/** `args` less flags and the values of those in `valued`. */
export function positional(valued: readonly string[], args: readonly string[] = Deno.args): string[] {
  return args.filter((arg, i) => !arg.startsWith("--") && !valued.includes(args[i - 1] ?? ""));
}
