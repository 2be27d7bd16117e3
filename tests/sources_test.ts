/** nothing that a model brings runs as code, and what is imported late is what deno.json pins. */
import { assertEquals } from "@std/assert";
import config from "../deno.json" with { type: "json" };

const root = new URL("../", import.meta.url);

// What may not stand in a source: code made of text, and imports of what is not known before.
const rules: [rule: string, found: RegExp][] = [
  ["eval", /(?<![\w.#])eval\s*\(/g],
  ["Function of a text", /(?<![\w.#])Function\s*\(/g],
  ["an import of a value", /(?<![\w.#])import\s*\(\s*(?!"|[A-Z]+\)|\$\{JSON\.stringify\([A-Z]+\)\})/g],
  ["a name in capitals that no npm: package of deno.json is behind", /(?<=import\s*\(\s*)[A-Z]+(?=\))/g],
];

const pinned: readonly string[] = Object.values(config.imports);
const named = /^const ([A-Z]+) = "(npm:[^"]+)"/gm; // a package that is imported when it is needed

/** What is wrong with a source, by the rules. */
function faults(source: string): string[] {
  const packages = new Map([...source.matchAll(named)].map(([, name, specifier]) => [name!, specifier!]));
  const wrong = [...packages.values()].filter((specifier) => !pinned.includes(specifier));
  const found = rules.flatMap(([rule, pattern]) =>
    [...source.matchAll(pattern)].filter(([text]) => !packages.has(text)).map(() => rule)
  );
  return [...found, ...wrong.map((specifier) => `${specifier} is not what deno.json pins`)];
}

function sources(folder: URL): URL[] {
  return [...Deno.readDirSync(folder)].flatMap((entry) => {
    if (entry.isDirectory) return sources(new URL(`${entry.name}/`, folder));
    return entry.name.endsWith(".ts") ? [new URL(entry.name, folder)] : [];
  });
}

const webgpu = pinned.find((specifier) => specifier.startsWith("npm:webgpu@"))!;
const cases: [source: string, faults: number][] = [
  ['await import("./x.ts"); type T = typeof import("x"); important(x); x.eval(y); isFunction(x);', 0],
  [`const WEBGPU = "${webgpu}";\nawait import(WEBGPU);`, 0],
  ["await import(path);", 1],
  ["await import(`./${family}.ts`);", 1],
  ["await import(OTHER);", 1],
  ['const WEBGPU = "npm:webgpu@0.0.1";\nawait import(WEBGPU);', 1],
  ["eval(text); new Function(text)();", 2],
];

for (const [source, count] of cases) {
  Deno.test(`sources: ${JSON.stringify(source)} has ${count} faults`, () => assertEquals(faults(source).length, count));
}

Deno.test("sources: nothing runs text as code, and packages that are imported late are pinned", () => {
  const files = [...sources(new URL("src/", root)), new URL("mod.ts", root), new URL("cli.ts", root)];
  const wrong = files.flatMap((file) =>
    faults(Deno.readTextFileSync(file)).map((fault) => `${file.pathname.slice(root.pathname.length)}: ${fault}`)
  );
  assertEquals(wrong, []);
});
