/** Command-line flags of the benches. */

/** What follows `name` among `args`; undefined where it is not given, or another flag follows. */
export function flagValue(name: string, args: readonly string[] = Deno.args): string | undefined {
  const at = args.indexOf(name), value = at === -1 ? undefined : args[at + 1];
  return value?.startsWith("--") ? undefined : value;
}

/** `args` less flags and the values of those in `valued`. */
export function positional(valued: readonly string[], args: readonly string[] = Deno.args): string[] {
  return args.filter((arg, i) => !arg.startsWith("--") && !valued.includes(args[i - 1] ?? ""));
}

/** What is wrong with the flags among `args`: one that is neither in `valued` nor in `plain`, or that lacks its value. */
export function badFlag(
  valued: readonly string[],
  plain: readonly string[],
  args: readonly string[] = Deno.args,
): string | undefined {
  for (const arg of args.filter((arg) => arg.startsWith("--"))) {
    if (plain.includes(arg)) continue;
    if (!valued.includes(arg)) return `There is no flag ${arg}`;
    if (arg !== "--saved" && flagValue(arg, args) === undefined) return `${arg} needs a value`;
  }
}
