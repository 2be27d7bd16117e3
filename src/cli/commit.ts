/** The commit of the checkout that this file is in, by Git's own files; undefined in a package or without permission. */
export async function currentCommit(): Promise<string | undefined> {
  const git = new URL("../../.git/", import.meta.url);
  if (git.protocol !== "file:") return undefined;
  const read = async (name: string) => (await Deno.readTextFile(new URL(name, git))).trim();
  try {
    const head = await read("HEAD"), [, branch] = /^ref: (refs\/[\w./-]+)$/.exec(head) ?? [];
    const commit = branch ? await read(branch).catch(() => packed(read, branch)) : head;
    return commit && /^[0-9a-f]{40,64}$/.test(commit) ? commit : undefined;
  } catch {
    return undefined;
  }
}

async function packed(read: (name: string) => Promise<string>, branch: string): Promise<string | undefined> {
  const refs = await read("packed-refs");
  return refs.split("\n").find((line) => line.endsWith(` ${branch}`))?.split(" ")[0];
}
