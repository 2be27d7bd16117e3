// The map of ARCHITECTURE.md as a test: a file imports from its own layer or one nearer the GPU.
import { assertEquals } from "@std/assert";

const root = new URL("../", import.meta.url);

// From the user to the GPU. A layer is a folder of src/, a file beside them ("errors"), or an entry point ("mod", "cli").
const layers = [
  "cli",
  "server",
  "mod",
  "pipelines",
  "generation",
  "tokenizer",
  "models",
  "cache",
  "weights",
  "quantization",
  "ops",
  "tensor",
  "gpu",
  "shaders",
  "progress",
  "warn",
  "errors",
  "version",
];

// Side layers, which may import less than their place in the row would let them.
const sideLayers: Record<string, string[]> = {
  tokenizer: ["weights", "progress", "errors"],
  cache: ["quantization", "ops", "tensor", "gpu", "shaders", "warn", "errors"],
};

function layerOf(path: string): string {
  const [first = "", second = ""] = path.replace(/^src\//, "").split("/");
  return second === "" ? first.replace(/\.ts$/, "") : first;
}

/** Why `from` may not import `to` (paths from the root), or nothing where it may. */
function objection(from: string, to: string): string | undefined {
  const [a, b] = [layerOf(from), layerOf(to)];
  if (!layers.includes(a) || !layers.includes(b)) return `${from} or ${to} is in no layer of tests/layers_test.ts`;
  if (a === b || (sideLayers[a]?.includes(b) ?? layers.indexOf(a) < layers.indexOf(b))) return;
  return `${from} imports ${to}: ${a} is no user of ${b}`;
}

function sources(folder = root): URL[] {
  return [...Deno.readDirSync(folder)].flatMap((entry) => {
    if (folder === root && !["mod.ts", "cli.ts", "src"].includes(entry.name)) return [];
    if (entry.isDirectory) return sources(new URL(`${entry.name}/`, folder));
    return entry.name.endsWith(".ts") ? [new URL(entry.name, folder)] : [];
  });
}

interface ModuleGraph {
  modules: { specifier: string; dependencies?: { code?: { specifier?: string }; type?: { specifier?: string } }[] }[];
}

/** Every import between our own files, types too, as pairs of paths from the root. */
async function imports(): Promise<[from: string, to: string][]> {
  const entry = await Deno.makeTempFile({ suffix: ".ts" });
  await Deno.writeTextFile(entry, sources().map((url) => `import "${url}";`).join("\n"));
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["info", "--json", "--config", "deno.json", entry],
    cwd: root,
  }).output();
  await Deno.remove(entry);
  const graph: ModuleGraph = JSON.parse(new TextDecoder().decode(stdout));
  const own = (specifier?: string) => specifier?.startsWith(root.href) ? [specifier.slice(root.href.length)] : [];
  const pairs: [from: string, to: string][] = [];
  for (const module of graph.modules) {
    for (const from of own(module.specifier)) {
      for (const { code, type } of module.dependencies ?? []) {
        for (const to of own(code?.specifier ?? type?.specifier)) pairs.push([from, to]);
      }
    }
  }
  return pairs;
}

const cases: [from: string, to: string, allowed: boolean][] = [
  ["src/ops/rms_norm.ts", "src/gpu/mod.ts", true],
  ["src/ops/rms_norm.ts", "src/ops/mod.ts", true],
  ["src/ops/rms_norm.ts", "src/shaders/rms_norm.wgsl", true],
  ["src/gpu/stream.ts", "src/tensor/tensor.ts", false],
  ["src/weights/safetensors.ts", "src/models/llama.ts", false],
  ["src/tokenizer/tokenizer.ts", "src/weights/files.ts", true],
  ["src/tokenizer/tokenizer.ts", "src/ops/mod.ts", false],
  ["src/cache/dynamic_cache.ts", "src/weights/files.ts", false],
  ["src/errors.ts", "src/progress.ts", false],
  ["src/models/llama.ts", "mod.ts", false],
  ["cli.ts", "mod.ts", true],
  ["src/elsewhere/x.ts", "src/errors.ts", false],
];
for (const [from, to, allowed] of cases) {
  Deno.test(`layers: ${from} ${allowed ? "may" : "may not"} import ${to}`, () => {
    assertEquals(objection(from, to) === undefined, allowed);
  });
}

Deno.test("layers: every import of the sources goes towards the GPU", async () => {
  const pairs = await imports();
  assertEquals(
    pairs.some(([from]) => from === "src/ops/mod.ts"),
    true,
    "deno info lists the imports of src/ops/mod.ts",
  );
  assertEquals(pairs.flatMap(([from, to]) => objection(from, to) ?? []), []);
});
