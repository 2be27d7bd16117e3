/** What the tests of weights share: safetensors bytes made by hand, ways to damage them, temporary folders. */
import fc from "fast-check";
import { cpuTime } from "../helpers.ts";

const encoder = new TextEncoder();

/** A safetensors file: the length of `header`, the header, then `data` (or that many bytes 1, 2, 3 …). */
export function safetensors(header: string | Uint8Array | object, data: number | Uint8Array = 0): Uint8Array {
  const json = header instanceof Uint8Array
    ? header
    : encoder.encode(typeof header === "string" ? header : JSON.stringify(header));
  const bytes = typeof data === "number" ? Uint8Array.from({ length: data }, (_, i) => i + 1) : data;
  const file = new Uint8Array(8 + json.length + bytes.length);
  new DataView(file.buffer).setBigUint64(0, BigInt(json.length), true);
  file.set(json, 8);
  file.set(bytes, 8 + json.length);
  return file;
}

/** A folder that is removed when it goes out of scope. */
export class TemporaryFolder implements Disposable {
  /** Its real path. */
  readonly path: string = Deno.realPathSync(Deno.makeTempDirSync({ prefix: "tensaur-" }));

  /** Writes a file, with the folders that lead to it, and returns its path; an object is written as JSON. */
  write(name: string, content: Uint8Array | string | object): string {
    const path = `${this.path}/${name}`;
    Deno.mkdirSync(path.slice(0, path.lastIndexOf("/")), { recursive: true });
    const bytes = content instanceof Uint8Array
      ? content
      : encoder.encode(typeof content === "string" ? content : JSON.stringify(content));
    Deno.writeFileSync(path, bytes);
    return path;
  }

  [Symbol.dispose](): void {
    Deno.removeSync(this.path, { recursive: true });
  }
}

/** The seed of a property test: `TENSAUR_SEED`, or another one each time; the test's name must show it. */
export const seed: number = Number(Deno.env.get("TENSAUR_SEED") ?? Math.floor(Math.random() * 2 ** 31));

const sizes = { U8: 1, BOOL: 1, I8: 1, F8_E4M3: 1, F16: 2, BF16: 2, I32: 4, F32: 4, I64: 8, F64: 8, C64: 8 } as const;

/** A file of up to five tensors, sound but where `skew` pulls them apart or over each other. */
const someFile = fc.record({
  tensors: fc.uniqueArray(
    fc.record({
      name: fc.oneof(fc.constantFrom("a", "b", "model.norm.weight", "__proto__", "é", "\u{1F9E0}", ""), fc.string()),
      dtype: fc.noBias(fc.constantFrom(...Object.keys(sizes) as (keyof typeof sizes)[])),
      shape: fc.noBias(fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 3 })),
    }),
    { minLength: 1, maxLength: 5, selector: (tensor) => tensor.name },
  ),
  metadata: fc.option(fc.dictionary(fc.string({ maxLength: 5 }), fc.string({ maxLength: 5 }), { maxKeys: 3 })),
  pad: fc.integer({ min: 0, max: 8 }),
  skew: fc.noBias(fc.constantFrom(0, 0, 0, 0, 0, 0, 0, 0, -4, -1, 1, 8)),
}).map(({ tensors, metadata, pad, skew }) => {
  let at = 0;
  const members = tensors.filter((tensor) => tensor.name !== "__metadata__").map(({ name, dtype, shape }) => {
    const start = at === 0 ? 0 : Math.max(0, at + skew);
    at = start + shape.reduce((product, size) => product * size, sizes[dtype]);
    return `${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [start, at] })}`;
  });
  if (metadata) members.push(`"__metadata__":${JSON.stringify(metadata)}`);
  return safetensors(`{${members.join()}}${" ".repeat(pad)}`, at);
});

/** Pieces of JSON, sound and not, to put into a file. */
export const tokens = [
  ...[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    '"',
    "\\",
    '"dtype"',
    '"shape"',
    '"data_offsets"',
    '"__metadata__"',
    '"a":',
    '"F32"',
  ],
  ...["0", "1", "-1", "1.0", "1e3", "01", "9007199254740993", "18446744073709551616", "null", "true", "NaN", "\\ud800"],
  ...["\ufeff", "\0", "\n", " ", "[[[[", '"F4"', '"F6_E2M3"', '"X"', "[0,0]", "[]", "{}", "é", "/*", "'"],
];

/** One way to damage bytes; `at` and `to` are places as parts of the whole. */
const edit = fc.record({
  kind: fc.constantFrom(
    "digit",
    "digit",
    "digit",
    "flip",
    "cut",
    "repeat",
    "insert",
    "replace",
    "truncate",
    "extend",
    "length",
  ),
  at: fc.noBias(fc.nat(9999).map((n) => n / 1e4)), // biased, nearly all edits would fall on the first byte
  size: fc.integer({ min: 1, max: 24 }),
  token: fc.constantFrom(...tokens),
  byte: fc.integer({ min: 0, max: 255 }),
});

type Edit = typeof edit extends fc.Arbitrary<infer T> ? T : never;

function damage(bytes: Uint8Array, { kind, at, size, token, byte }: Edit, first: number): Uint8Array {
  const end = bytes.length;
  const place = Math.min(end, first + Math.floor(at * (end - first)));
  const join = (...parts: Uint8Array[]) => Uint8Array.from(parts.flatMap((part) => [...part]));
  const before = bytes.subarray(0, place);
  switch (kind) {
    case "flip":
      return bytes.map((b, i) => i === place ? b ^ (1 << (byte & 7)) : b);
    case "digit": {
      const digits = [...bytes.keys()].filter((i) => i >= first && bytes[i]! >= 0x30 && bytes[i]! <= 0x39);
      const chosen = digits[Math.floor(at * digits.length)];
      return bytes.map((b, i) => i === chosen ? 0x30 + byte % 10 : b);
    }
    case "cut":
      return join(before, bytes.subarray(place + size));
    case "repeat":
      return join(before, bytes.subarray(place, place + size), bytes.subarray(place));
    case "insert":
      return join(before, encoder.encode(token), bytes.subarray(place));
    case "replace":
      return join(before, encoder.encode(token), bytes.subarray(place + token.length));
    case "truncate":
      return before.slice();
    case "extend":
      return join(bytes, new Uint8Array(size));
    default:
      return bytes.map((b, i) => i === byte % 8 && first > 0 ? size : b);
  }
}

/** Applies edits to header or whole file; where only the header changed, its length is mended so that more rules are met. */
function mutate(file: Uint8Array, edits: Edit[], mend: boolean): Uint8Array {
  const length = Number(new DataView(file.buffer, file.byteOffset).getBigUint64(0, true));
  if (!mend) return edits.reduce<Uint8Array>((bytes, e) => damage(bytes, e, Math.min(8, bytes.length)), file);
  const header = edits.reduce<Uint8Array>((bytes, e) => damage(bytes, e, 0), file.slice(8, 8 + length));
  return safetensors(header, file.slice(8 + length));
}

/** Safetensors files, most of them damaged. */
export const mutatedSafetensors: fc.Arbitrary<Uint8Array> = fc
  .tuple(someFile, fc.array(edit, { maxLength: 3 }), fc.noBias(fc.boolean()))
  .map(([file, edits, mend]) => mutate(file, edits, mend));

/** JSON texts, most of them damaged. */
export function mutatedJson(text: string): fc.Arbitrary<Uint8Array> {
  return fc.array(edit, { maxLength: 4 }).map((edits) =>
    edits.reduce<Uint8Array>((b, e) => damage(b, e, 0), encoder.encode(text))
  );
}

/** The most bytes that `run` let the heap grow by, sampled after each of its steps, and its slowest step in ms of CPU. */
export class Meter {
  /** Bytes above the start. */
  growth = 0;
  /** Milliseconds of the slowest step. */
  slowest = 0;
  readonly #start = Meter.#bytes();

  /** Runs one step. */
  step<T>(run: () => T): T {
    const begin = cpuTime();
    try {
      return run();
    } finally {
      this.slowest = Math.max(this.slowest, cpuTime() - begin);
      this.growth = Math.max(this.growth, Meter.#bytes() - this.#start);
    }
  }

  static #bytes(): number {
    const { heapUsed, external } = Deno.memoryUsage();
    return heapUsed + external;
  }
}
