/** What the tests of the hub share: a repository, a cache to fill, and the rule that no bad file may be seen in it. */

import { createHash } from "node:crypto";
import { join } from "node:path";
import { assert, assertEquals } from "@std/assert";
import type { HubSettings } from "../../src/weights/hub_settings.ts";
import { type ResolvedModel, type ResolveOptions, resolveSnapshot } from "../../src/weights/hub_snapshot.ts";
import { gitId, type MockHub, type MockRepo, publishedName, REPO, someBytes } from "./mock_hub.ts";

/** The token that every test uses: it must never be seen in an error. */
export const TOKEN = "hf_TheSecretOfTheTests";

/** The large file of {@linkcode tinyRepo}. */
export const WEIGHTS = "model.safetensors";

/** Files that are fetched, and others that must not be. */
export function tinyRepo(changes: Partial<MockRepo> = {}): MockRepo {
  return {
    files: {
      "config.json": someBytes(700, 2),
      "tokenizer.json": someBytes(3000, 3),
      "1_Pooling/config.json": someBytes(190, 4),
      [WEIGHTS]: someBytes(60_000, 5),
      "README.md": someBytes(50, 6),
      "pytorch_model.bin": someBytes(80, 7),
      "onnx/model.onnx": someBytes(90, 8),
    },
    lfs: [WEIGHTS, "pytorch_model.bin"],
    ...changes,
  };
}

/** The files of {@linkcode tinyRepo} that a model is loaded from. */
export const FETCHED = ["1_Pooling/config.json", "config.json", WEIGHTS, "tokenizer.json"];

/** A cache in a fresh folder, and a way to fill it from `hub`. */
export class TestCache implements Disposable {
  readonly dir: string = Deno.makeTempDirSync({ prefix: "tensaur_hub_" });

  /** Settings with short waits. */
  settings(hub: { endpoint: string }, changes: Partial<HubSettings> = {}): HubSettings {
    const { endpoint } = hub;
    return { cacheDir: this.dir, endpoint, token: TOKEN, offline: false, backoffMs: 1, stallMs: 2000, ...changes };
  }

  /** resolveModel() of the mock repository with these settings. */
  resolve(hub: MockHub, options: ResolveOptions = {}, changes: Partial<HubSettings> = {}): Promise<ResolvedModel> {
    return resolveSnapshot(REPO, options, this.settings(hub, changes));
  }

  /** A path inside the repository's folder. */
  path(...parts: string[]): string {
    return join(this.dir, `models--${REPO.replace("/", "--")}`, ...parts);
  }

  /** Where a file's bytes lie. */
  blob(repo: MockRepo, file: string): string {
    return this.path("blobs", publishedName(repo, file));
  }

  /** Leaves `bytes` as an earlier, interrupted download of `file` would. */
  async leaveIncomplete(repo: MockRepo, file: string, bytes: Uint8Array): Promise<void> {
    await Deno.mkdir(this.path("blobs"), { recursive: true });
    await Deno.writeFile(`${this.blob(repo, file)}.incomplete`, bytes);
  }

  /** Every file under the repository's folder that is not a note, relative to it, sorted. */
  files(under = ""): string[] {
    const list: string[] = [];
    const walk = (dir: string) => {
      for (const { name, isDirectory } of readDir(this.path(dir))) {
        if (isDirectory) walk(join(dir, name));
        else list.push(join(dir, name));
      }
    };
    walk(under);
    return list.sort();
  }

  /** Fails if a file under snapshots/ differs from the published one, or a blob from its name. */
  assertNothingBad(repo: MockRepo): void {
    for (const path of this.files("snapshots")) {
      const file = path.split(/[/\\]/).slice(2).join("/");
      assertEquals(gitId(Deno.readFileSync(this.path(path))), gitId(repo.files[file]!), `bytes of ${path}`);
    }
    for (const path of this.files("blobs").filter((path) => !path.endsWith(".incomplete"))) {
      const name = path.slice("blobs/".length);
      const bytes = Deno.readFileSync(this.path(path));
      const actual = name.length === 40 ? gitId(bytes) : createHash("sha256").update(bytes).digest("hex");
      assertEquals(actual, name, `hash of ${path}`);
    }
    assert(!this.files().some((path) => path.endsWith(".tmp")), "a temporary file is left");
  }

  /** Fails unless exactly {@linkcode FETCHED} is there, with the right bytes. */
  assertComplete(repo: MockRepo, { dir, commit }: ResolvedModel): void {
    this.assertNothingBad(repo);
    assertEquals(dir, this.path("snapshots", commit!));
    assertEquals(
      this.files(join("snapshots", commit!)),
      FETCHED.map((file) => join("snapshots", commit!, file)).sort(),
    );
    assertEquals(this.files("blobs").filter((path) => path.endsWith(".incomplete")), []);
  }

  /** Removes the folder. */
  [Symbol.dispose](): void {
    Deno.removeSync(this.dir, { recursive: true });
  }
}

function readDir(path: string): Deno.DirEntry[] {
  try {
    return [...Deno.readDirSync(path)];
  } catch {
    return [];
  }
}

/** Everything an error says: message, hint, and the same of its causes. */
export function everythingSaid(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const hint = "hint" in error ? error.hint : "";
  return `${error.stack} ${error.message} ${hint} ${error.cause === undefined ? "" : everythingSaid(error.cause)}`;
}
