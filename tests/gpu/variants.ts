/** Every variant that the directives of a shader allow: what the variants test compiles. */
import { assemble, type Assembled, type Variant } from "../../src/gpu/assemble.ts";
import { type Kernel, kernels } from "../../src/gpu/mod.ts";
import { type Declared, declared, excluded } from "../../src/gpu/variants.ts";
import { INCLUDES } from "../../src/shaders/include/mod.ts";

const root = new URL("../../src/", import.meta.url);

/** Files below `folder`, as URLs. */
async function* walk(folder: URL): AsyncGenerator<URL> {
  for await (const entry of Deno.readDir(folder)) {
    const url = new URL(entry.isDirectory ? `${entry.name}/` : entry.name, folder);
    if (entry.isDirectory) yield* walk(url);
    else yield url;
  }
}

/** All kernels of the library: imports every file that imports a shader, wherever it lies. */
export async function allKernels(): Promise<ReadonlyMap<string, Kernel>> {
  for await (const url of walk(root)) {
    if (!url.pathname.endsWith(".ts") || url.pathname.includes("/shaders/")) continue;
    if (/\.wgsl" with \{ type: "text" \}/.test(await Deno.readTextFile(url))) await import(url.href);
  }
  return kernels();
}

/** Names of the files of `src/shaders`, without the ending. */
export async function shaderNames(): Promise<string[]> {
  const names: string[] = [];
  for await (const { name } of Deno.readDir(new URL("shaders/", root))) {
    if (name.endsWith(".wgsl")) names.push(name.slice(0, -".wgsl".length));
  }
  return names.sort();
}

/** The variants of the shader text `source`: one of each group, each optional flag or not, each value of a constant. */
export function variants(source: string): Variant[] {
  const all = declared(source);
  return choices(all).reduce<Variant[]>(
    (rows, choice) => rows.flatMap((row) => choice.map((part) => join(row, part))),
    [{}],
  ).filter((variant) => !excluded(all, variant));
}

function choices({ oneOf, optional, consts }: Declared): Variant[][] {
  return [
    ...oneOf.map((group) => group.map((flag) => ({ flags: { [flag]: true } }))),
    ...optional.map((flag) => [{}, { flags: { [flag]: true } }]),
    ...Object.entries(consts).map(([word, values]) => values.map((value) => ({ consts: { [word]: value } }))),
  ];
}

function join(a: Variant, b: Variant): Variant {
  return { flags: { ...a.flags, ...b.flags }, consts: { ...a.consts, ...b.consts } };
}

/** The WGSL of one variant, for a compiler that wants subgroups enabled or not, and knows 64-bit integers or not. */
export function textOf(
  name: string,
  source: string,
  variant: Variant,
  { enable, INT64 }: { enable: boolean; INT64: boolean },
): Assembled {
  const header = enable && variant.flags?.SUBGROUPS ? ["enable subgroups;"] : [], flags = { ...variant.flags, INT64 };
  return assemble(`${name}.wgsl`, source, INCLUDES, { ...variant, flags, header });
}

/** "matmul F16 BIAS ROWS=4" */
export function variantName(name: string, { flags = {}, consts = {} }: Variant): string {
  return [name, ...Object.keys(flags), ...Object.entries(consts).map((pair) => pair.join("="))].join(" ");
}
