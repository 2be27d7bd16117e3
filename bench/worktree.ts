/** Another commit, checked out beside the repository for as long as something needs it. */
import { output } from "./process.ts";
import { BENCH } from "./suite.ts";

/** The full name of `commit`; undefined where Git does not have it. */
export async function commitOf(commit: string): Promise<string | undefined> {
  const found = output("git", ["rev-parse", "--verify", "--quiet", `${commit}^{commit}`], { cwd: BENCH });
  return (await found.catch(() => "")).trim() || undefined;
}

/** Runs `work` with the folder of `commit`, in which today's `files` of bench/ replace its own; then removes it. */
export async function withCommit<T>(
  commit: string,
  files: readonly string[],
  work: (tree: string) => Promise<T>,
): Promise<T> {
  const folder = await Deno.makeTempDir({ prefix: "tensaur-compare-" }), tree = `${folder}/tree`;
  try {
    await output("git", ["worktree", "add", "--detach", "--quiet", tree, commit], { cwd: BENCH });
    await Deno.mkdir(`${tree}/bench`, { recursive: true });
    for (const file of files) await Deno.copyFile(new URL(file, BENCH), `${tree}/bench/${file}`);
    return await work(tree);
  } finally {
    await Deno.remove(folder, { recursive: true });
    const prune = new Deno.Command("git", { args: ["worktree", "prune"], cwd: BENCH }); // also after an interruption
    await prune.output();
  }
}
