/**
 * `--prompt-cache-file`: keys and values that the next run need not compute.
 *
 * @module
 */
import type { Cache } from "../cache/mod.ts";
import { ValueError } from "../errors.ts";
import { cachedInputIds, loadCache, saveCache } from "../generation/cache_file.ts";
import type { Model } from "../models/mod.ts";

/** The cache of one sequence that may come from a file, and go there. */
export class PromptCache implements Disposable {
  private constructor(
    readonly cache: Cache,
    /** Tokens that it holds. */
    readonly ids: readonly number[],
    readonly path: string | undefined,
    readonly model: Model,
  ) {}

  /** What the file holds, or an empty cache if there is none. */
  static async open(model: Model, path?: string): Promise<PromptCache> {
    if (path !== undefined && Deno.permissions.querySync({ name: "write", path }).state !== "granted") {
      throw new ValueError(
        `Cannot keep a cache in "${path}" as it must be writable: --allow-write is not given for it`,
        {
          hint: "Start it with ./tensaur, which permits the files that --prompt-cache-file names.",
        },
      );
    }
    if (path === undefined || !await exists(path)) return new PromptCache(model.newCache(), [], path, model);
    const [ids = []] = await cachedInputIds(path) ?? [];
    return new PromptCache(await loadCache(model, path), ids, path, model);
  }

  /** Cuts the cache down to what it has in common with `ids`, but for the last one, and returns how many those are. */
  keep(ids: readonly number[]): number {
    const [held] = this.cache.lengths;
    if (held === undefined) return 0;
    const shared = sharedPrefix(this.ids.slice(0, held), ids.slice(0, -1));
    this.cache.crop([shared]);
    return shared;
  }

  /** Writes the cache of `ids`, of which it holds at least the beginning, unless the file has just that. */
  async save(ids: readonly number[]): Promise<void> {
    if (this.path === undefined) return;
    const kept = ids.slice(0, this.cache.lengths[0] ?? 0);
    if (kept.length === this.ids.length && sharedPrefix(kept, this.ids) === kept.length) return;
    this.cache.crop([kept.length]);
    await saveCache(this.cache, this.model, this.path, { inputIds: [kept] });
  }

  /** Returns the memory. */
  [Symbol.dispose](): void {
    this.cache[Symbol.dispose]();
  }
}

/** How many tokens two sequences begin with alike. */
export function sharedPrefix(a: readonly number[], b: readonly number[]): number {
  let shared = 0;
  while (shared < a.length && shared < b.length && a[shared] === b[shared]) shared++;
  return shared;
}

async function exists(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
