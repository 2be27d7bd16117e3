/** The same files through Python's safetensors: what is read here is read there, and alike. Needs python3 with it. */
import fc from "fast-check";
import { assert, assertEquals } from "@std/assert";
import { fromFileUrl } from "@std/path";
import { openCheckpoint } from "../../src/weights/checkpoint.ts";
import { parseJsonText } from "../../src/weights/json_text.ts";
import { DTYPE_BITS, parseSafetensorsHeader, type SafetensorsDtype } from "../../src/weights/safetensors.ts";
import { writeSafetensors } from "../../src/weights/save.ts";
import { mutatedSafetensors, seed, TemporaryFolder } from "./fixture.ts";

const FILES = Deno.env.get("TENSAUR_TEST_FULL") === "1" ? 5000 : 2000;

/** What either reader says about a file: null if it refuses it, else its tensors by name. */
type Reading = Record<string, [dtype: string, shape: number[], sha256: string]> | null;

const script = `
import sys, json, hashlib
from safetensors import deserialize
for path in sys.stdin.read().splitlines():
    try:
        with open(path, "rb") as f: tensors = deserialize(f.read())
        print(json.dumps({n: [t["dtype"], t["shape"], hashlib.sha256(t["data"]).hexdigest()] for n, t in tensors}))
    except Exception: print("null")
`;

// Sound files of each kind: dtypes, scalars, nothing, awkward names, metadata, many tensors, more than a megabyte.
const goodFiles = `
import math, sys
import numpy
from safetensors.numpy import save_file
KINDS = ["f8", "f4", "f2", "c8", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"]
def tensor(kind, shape): return (numpy.arange(math.prod(shape)) * 7 % 251).astype(kind).reshape(shape)
files = [
    {}, {"scalar": tensor("f4", [])}, {"empty": tensor("f2", [0, 3]), "after": tensor("i8", [1])},
    {kind: tensor(kind, [2, 3]) for kind in KINDS}, {"__proto__": tensor("u1", [3]), "constructor": tensor("u1", [1])},
    {"é": tensor("f4", [1]), "\\\\": tensor("i1", [5]), '"': tensor("i1", [1]), "\\n": tensor("i1", [2])},
    {"🧠.weight": tensor("u2", [4, 4])}, {f"layers.{i}.weight": tensor("f2", [i, 2]) for i in range(200)},
    {"large": tensor("f4", [700, 500])}, {"deep": tensor("u1", [1] * 20)}, {"b": tensor("u1", [3]), "a": tensor("f8", [1])},
    {"": tensor("?", [2])},
]
for i, tensors in enumerate(files):
    path = f"{sys.argv[1]}/{i}.safetensors"
    save_file(tensors, path, {"format": "pt", "é": '"', "": ""} if i % 2 else None)
    print(path)
`;

async function python(code: string, input = "", ...args: string[]): Promise<string | undefined> {
  let child: Deno.ChildProcess;
  try {
    child = new Deno.Command("python3", {
      args: ["-c", code, ...args],
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
  } catch {
    return undefined;
  }
  const output = child.output();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(input)).then(() => writer.close()).catch(() => {});
  const { success, stdout } = await output;
  return success ? new TextDecoder().decode(stdout) : undefined;
}

async function read(file: Uint8Array): Promise<Reading> {
  try {
    const { tensors } = parseSafetensorsHeader(file, file.length, "x");
    const entries = tensors.values().map(async (t): Promise<[string, [string, number[], string]]> => {
      const hash = await crypto.subtle.digest("SHA-256", file.slice(t.start, t.end));
      return [t.name, [t.dtype, [...t.shape], new Uint8Array(hash).toHex()]];
    });
    return Object.fromEntries(await Promise.all(entries));
  } catch {
    return null;
  }
}

async function pythonReads(paths: string[]): Promise<Reading[]> {
  const lines = await python(script, paths.join("\n"));
  assert(lines !== undefined);
  return lines.trimEnd().split("\n").map((line) => parseJsonText(line) as Reading);
}

const here = (path: string) => fromFileUrl(new URL(`../../${path}`, import.meta.url));

function* safetensorsUnder(folder: string): Generator<string> {
  try {
    for (const entry of Deno.readDirSync(folder)) {
      if (entry.isDirectory) yield* safetensorsUnder(`${folder}/${entry.name}`);
      else if (entry.name.endsWith(".safetensors")) yield `${folder}/${entry.name}`;
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

if (await python("import safetensors") === undefined) {
  Deno.test("skipped: no python3 with safetensors to compare with", () => {});
} else {
  Deno.test(`parseSafetensorsHeader() reads ${FILES} damaged files as Python does, or refuses them (seed ${seed})`, async () => {
    using folder = new TemporaryFolder();
    const files = fc.sample(mutatedSafetensors, { numRuns: FILES, seed: seed + 1 });
    const theirs = await pythonReads(files.map((file, i) => folder.write(`${i}`, file)));
    let accepted = 0;
    for (const [i, file] of files.entries()) {
      const ours = await read(file);
      if (ours === null) continue;
      accepted++;
      assertEquals(ours, theirs[i], new TextDecoder().decode(file));
    }
    assert(accepted > FILES / 20 && accepted < FILES * 0.75, `${accepted} read`);
  });

  Deno.test("parseSafetensorsHeader() reads 12 files of Python's writer as Python does", async () => {
    using folder = new TemporaryFolder();
    const names = (await python(goodFiles, "", folder.path))!.trimEnd().split("\n");
    assertEquals(names.length, 12);
    const theirs = await pythonReads(names);
    for (const [i, path] of names.entries()) {
      assert(theirs[i] !== null);
      assertEquals(await read(Deno.readFileSync(path)), theirs[i], path);
    }
  });

  const real = [...safetensorsUnder(here("models")), ...safetensorsUnder(here("../shared/reference/data/models"))];
  Deno.test(`parseSafetensorsHeader() reads ${real.length} files of Python's writer byte for byte`, async () => {
    const theirs = await pythonReads(real);
    for (const [i, path] of real.entries()) assertEquals(await read(Deno.readFileSync(path)), theirs[i], path);
    assert(theirs.every((reading) => reading !== null));
  });

  Deno.test("writeSafetensors() writes every dtype so that Python reads it", async () => {
    using folder = new TemporaryFolder();
    const tensors = (Object.entries(DTYPE_BITS) as [SafetensorsDtype, number][]).map(([dtype, bits], i) => {
      const data = Uint8Array.from({ length: bits }, (_, k) => 7 * i + k);
      return { name: `${dtype}"\\é`, dtype, shape: [2, 4], data };
    });
    const path = `${folder.path}/model.safetensors`;
    await writeSafetensors(path, tensors, { format: "pt" });
    const [theirs] = await pythonReads([path]);
    assertEquals(theirs, await read(Deno.readFileSync(path)));
    assertEquals(Object.keys(theirs!).length, tensors.length);
    const metadata =
      "import sys; from safetensors import safe_open; print(safe_open(sys.argv[1], 'np').metadata()['format'])";
    assertEquals(await python(metadata, "", path), "pt\n");
    using checkpoint = await openCheckpoint(folder.path);
    assertEquals(checkpoint.tensors.size, tensors.length);
  });
}
