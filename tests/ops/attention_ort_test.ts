/** Cases of onnxruntime's web tests, where they lie beside the repository: Attention, MultiHeadAttention and its grouped form. */
import { assertEquals } from "@std/assert";
import { fromFileUrl } from "@std/path";
import { scaledDotProductAttention } from "../../src/ops/scaled_dot_product_attention.ts";
import { tensor, tidy } from "../../src/tensor/mod.ts";
import { assertClose, testDevice } from "../helpers.ts";

interface Value {
  data: number[] | null;
  dims: number[];
}
interface Group {
  name: string;
  attributes: { name: string; data: number }[];
  cases: { name: string; inputs: (Value | undefined)[]; outputs: Value[] }[];
}
interface Parts {
  q: number[];
  k: number[];
  v: number[];
  B: number;
  L: number;
  S: number;
  H: number;
  Hkv: number;
  bias?: Value;
  causal?: boolean;
}

const device = await testDevice();

function read(name: string): Group[] | undefined {
  const path = fromFileUrl(new URL(`../../../shared/cases/ort_jsonc/${name}.jsonc`, import.meta.url));
  try {
    const text = Deno.readTextFileSync(path).replaceAll(/^\s*\/\/.*$/gm, "").replaceAll(/\/\*[^]*?\*\//g, "");
    return JSON.parse(text.replaceAll(/,(\s*[\]}])/g, "$1"));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** [B, n, heads · dim] to [B, heads, n, dim]. */
function byHead(x: readonly number[], B: number, n: number, heads: number): number[] {
  const dim = x.length / (B * n * heads);
  return x.map((_, i) => {
    const d = i % dim,
      row = Math.floor(i / dim) % n,
      h = Math.floor(i / dim / n) % heads,
      b = Math.floor(i / dim / n / heads);
    return x[((b * n + row) * heads + h) * dim + d]!;
  });
}

/** Keys or values of a past [B, heads, P, dim] before new ones [B, heads, n, dim]. */
function after(past: Value | undefined, x: number[], blocks: number): number[] {
  const old = past?.data ?? [];
  const piece = (all: number[], i: number) => all.slice(i * all.length / blocks, (i + 1) * all.length / blocks);
  return Array.from({ length: blocks }, (_, i) => [...piece(old, i), ...piece(x, i)]).flat();
}

/** Rows [n, inputs] times a matrix [inputs, outputs], plus a bias. */
function project(x: Value, w: Value, bias: Value): number[] {
  const [inputs = 0, outputs = 0] = w.dims;
  return Array.from({ length: x.data!.length / inputs * outputs }, (_, i) => {
    const row = Math.floor(i / outputs), column = i % outputs;
    return bias.data![column]! +
      w.data!.reduce(
        (sum, y, j) => j % outputs === column ? sum + y * x.data![row * inputs + Math.floor(j / outputs)]! : sum,
        0,
      );
  });
}

/** Columns `from` to `to` of rows of `width`. */
function columns(x: readonly number[], width: number, from: number, to: number): number[] {
  return x.filter((_, i) => i % width >= from && i % width < to);
}

const operators: Record<
  string,
  (inputs: (Value | undefined)[], attributes: Record<string, number>, outputs: number) => Parts
> = {
  attention([x, w, bias], { num_heads: H = 1 }) {
    const [B = 0, L = 0] = x!.dims, rows = project(x!, w!, bias!), width = w!.dims[1]!, third = width / 3;
    const part = (i: number) => byHead(columns(rows, width, i * third, (i + 1) * third), B, L, H);
    return { q: part(0), k: part(1), v: part(2), B, L, S: L, H, Hkv: H };
  },
  "multihead-attention"([q, k, v, bias, , attentionBias, ...past], { num_heads: H = 1 }, outputs) {
    const [pastK, pastV] = outputs > 1 || attentionBias?.data ? past : []; // else these cases leave the past out
    const [B = 0, L = 0, D = 0] = q!.dims;
    const biased = (x: Value, i: number) =>
      bias?.data ? x.data!.map((y, j) => y + bias.data![i * D + j % D]!) : x.data!;
    const heads = (x: Value, i: number) =>
      // keys of four dimensions have their heads outside already
      x.dims.length === 4 ? biased(x, i) : byHead(biased(x, i), B, x.dims[1]!, H);
    const fresh = k!.dims.length === 4 ? k!.dims[2]! : k!.dims[1]!, S = (pastK?.data ? pastK.dims[2]! : 0) + fresh;
    const keys = after(pastK, heads(k!, 1), B * H), values = after(pastV, heads(v!, 2), B * H);
    return {
      q: heads(q!, 0),
      k: keys,
      v: values,
      B,
      L,
      S,
      H,
      Hkv: H,
      bias: attentionBias?.data ? attentionBias : undefined,
    };
  },
  "group-query-attention"([x, k, v, pastK, pastV], { num_heads: H = 1, kv_num_heads: Hkv = 1 }) {
    const [B = 0, L = 0, width = 0] = x!.dims, dim = k?.data ? width / H : width / (H + 2 * Hkv);
    const part = (from: number, to: number) => columns(x!.data!, width, from * dim, to * dim);
    const [q, keys, values] = k?.data
      ? [x!.data!, k.data, v!.data!]
      : [part(0, H), part(H, H + Hkv), part(H + Hkv, H + 2 * Hkv)];
    const kv = (past: Value | undefined, fresh: number[]) => after(past, byHead(fresh, B, L, Hkv), B * Hkv);
    const S = L + (pastK?.dims[2] ?? 0);
    return { q: byHead(q, B, L, H), k: kv(pastK, keys), v: kv(pastV, values), B, L, S, H, Hkv, causal: true };
  },
};

for (const [file, parse] of Object.entries(operators)) {
  const groups = read(file);
  if (!groups) Deno.test({ name: `skipped: ${file} of onnxruntime's cases is not there`, ignore: true, fn() {} });
  for (const [i, group] of (groups ?? []).entries()) {
    for (const { name, inputs, outputs } of group.cases) {
      Deno.test(`scaledDotProductAttention() equals onnxruntime: ${file} ${i} ${group.name.trim()} ${name}`, async () => {
        const attributes = Object.fromEntries(group.attributes.map((a) => [a.name, a.data]));
        const { q, k, v, B, L, S, H, Hkv, bias, causal } = parse(inputs, attributes, outputs.length);
        using o = tidy(device, () => {
          const put = (x: number[], heads: number, n: number) =>
            tensor(device, x, [B, heads, n, x.length / (B * heads * n)]);
          return scaledDotProductAttention(put(q, H, L), put(k, Hkv, S), put(v, Hkv, S), {
            isCausal: causal && "bottomRight",
            enableGqa: true,
            attnMask: bias && tensor(device, bias.data!, bias.dims),
          });
        });
        const got = await o.read() as Float32Array, [want, presentK, presentV] = outputs;
        const Ev = got.length / (B * H * L);
        const rows = Array.from(got, (_, j) => { // [B, L, H · Ev]
          const d = j % Ev,
            h = Math.floor(j / Ev) % H,
            row = Math.floor(j / Ev / H) % L,
            b = Math.floor(j / Ev / H / L);
          return got[((b * H + h) * L + row) * Ev + d]!;
        });
        assertClose("y", rows, want!.data!, { rtol: 1e-5, atol: 1e-3 }); // onnxruntime's own rule
        if (presentK) assertEquals([k, v], [presentK.data!, presentV!.data!]);
      });
    }
  }
}
