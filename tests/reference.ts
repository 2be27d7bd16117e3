/**
 * The reference data that PyTorch and transformers computed, where it lies beside the repository (`../shared/reference`);
 * a stranger's clone has none, and its tests then register fewer cases.
 */
import { dirname, fromFileUrl, resolve } from "@std/path";

/** A tensor of a reference file; bfloat16 is given as float32. */
export interface GoldenTensor {
  data: Float32Array | Float16Array | Int32Array | Uint32Array | Int8Array | Uint8Array | BigInt64Array;
  shape: number[];
  dtype: "float32" | "float16" | "bfloat16" | "int32" | "uint32" | "int8" | "uint8" | "int64";
}

/** What a case says `|got - want|` may be: `atol + rtol * |want|`. */
export interface Tolerance {
  atol: number;
  rtol: number;
}

/** One case; a test names the inputs, outputs and params that it reads: `goldenCases<{ inputs: { x: GoldenTensor } }>`. */
export interface GoldenCase {
  name: string;
  op?: string;
  kind?: string;
  inputs?: unknown;
  outputs?: unknown;
  params?: unknown;
  generation?: unknown;
  tolerance?: Tolerance;
  note?: string;
}

/** A golden pair, `STEM.json` and `STEM.safetensors`. */
export interface Goldens<C> {
  /** What made it. */
  head: Record<string, unknown>;
  /** The cases, each `{"$tensor": key}` replaced by its {@linkcode GoldenTensor}. */
  cases: C[];
}

const ROOT = resolve(dirname(fromFileUrl(import.meta.url)), "../../shared/reference");

/** The absolute path of a file or folder of the reference data. */
export function referencePath(path: string): string {
  return resolve(ROOT, path);
}

/** Whether the reference data holds `path`. */
export function hasReference(path = "."): boolean {
  try {
    return Boolean(Deno.statSync(referencePath(path)));
  } catch {
    return false;
  }
}

/**
 * The golden pair `path` ("data/ops/norms", without an ending) of the reference data, or undefined where it is not there.
 */
export async function loadGoldens<C extends object = GoldenCase>(
  path: string,
): Promise<Goldens<GoldenCase & C> | undefined> {
  if (!hasReference(`${path}.json`)) return undefined;
  const { cases, ...head } = JSON.parse(await Deno.readTextFile(referencePath(`${path}.json`)));
  const tensors = hasReference(`${path}.safetensors`)
    ? await readSafetensors(referencePath(`${path}.safetensors`))
    : new Map<string, GoldenTensor>();
  return { head, cases: resolveTensors(cases, tensors) as (GoldenCase & C)[] };
}

/** The cases of the golden pair `path` whose `op` or `kind` is one of `ops`; none, and a test that says so, without it. */
export async function goldenCases<C extends object = GoldenCase>(
  path: string,
  ...ops: string[]
): Promise<(GoldenCase & C)[]> {
  const goldens = await loadGoldens<C>(path);
  if (!goldens) Deno.test({ name: `skipped: ${path} of the reference data is not there`, ignore: true, fn() {} });
  return (goldens?.cases ?? []).filter((c) => ops.length === 0 || ops.includes(c.op ?? c.kind ?? ""));
}

/** All tensors of a safetensors file, by name: a plain reader, independent of the one under test. */
export async function readSafetensors(path: string): Promise<Map<string, GoldenTensor>> {
  const file = (await Deno.readFile(path)).buffer;
  const start = 8 + Number(new DataView(file).getBigUint64(0, true));
  const header: Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }> = JSON.parse(
    new TextDecoder().decode(new Uint8Array(file, 8, start - 8)),
  );
  const tensors = new Map<string, GoldenTensor>();
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const { dtype, shape, data_offsets: [from, to] } = entry;
    tensors.set(name, { ...elementsOf(file.slice(start + from, start + to), dtype), shape });
  }
  return tensors;
}

function elementsOf(bytes: ArrayBuffer, dtype: string): Pick<GoldenTensor, "data" | "dtype"> {
  switch (dtype) {
    case "F32":
      return { data: new Float32Array(bytes), dtype: "float32" };
    case "F16":
      return { data: new Float16Array(bytes), dtype: "float16" };
    case "BF16":
      return {
        data: new Float32Array(Uint32Array.from(new Uint16Array(bytes), (bits) => bits << 16).buffer),
        dtype: "bfloat16",
      };
    case "I32":
      return { data: new Int32Array(bytes), dtype: "int32" };
    case "U32":
      return { data: new Uint32Array(bytes), dtype: "uint32" };
    case "I8":
      return { data: new Int8Array(bytes), dtype: "int8" };
    case "U8":
      return { data: new Uint8Array(bytes), dtype: "uint8" };
    case "I64":
      return { data: new BigInt64Array(bytes), dtype: "int64" };
    default:
      throw new Error(`the reference data has a dtype that this reader does not know: ${dtype}`);
  }
}

function resolveTensors(value: unknown, tensors: Map<string, GoldenTensor>): unknown {
  if (Array.isArray(value)) return value.map((v) => resolveTensors(v, tensors));
  if (typeof value !== "object" || value === null) return value;
  if (!("$tensor" in value)) {
    return Object.fromEntries(Object.entries(value).map(([key, v]) => [key, resolveTensors(v, tensors)]));
  }
  const found = tensors.get(String(value.$tensor));
  if (!found) throw new Error(`the reference data names a tensor that it does not hold: ${value.$tensor}`);
  return found;
}
