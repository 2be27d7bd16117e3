import fc from "fast-check";
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { ModelFormatError } from "../../src/errors.ts";
import { parseJsonText } from "../../src/weights/json_text.ts";
import { DTYPE_BITS, parseSafetensorsHeader, tensorByteLength } from "../../src/weights/safetensors.ts";
import { cpuTime } from "../helpers.ts";
import { Meter, mutatedSafetensors, safetensors, seed } from "./fixture.ts";

const RUNS = Deno.env.get("TENSAUR_TEST_FULL") === "1" ? 20_000 : 10_000;

const F32 = '"dtype":"F32","shape":[1],"data_offsets":[0,4]';
const at = (begin: number, end: number, shape = `[${(end - begin) / 4}]`) =>
  `{"dtype":"F32","shape":${shape},"data_offsets":[${begin},${end}]}`;
const withLength = (length: bigint, rest = '{"a":1}') => {
  const file = safetensors(rest);
  new DataView(file.buffer).setBigUint64(0, length, true);
  return file;
};
const shape = (list: string) => `{"a":{"dtype":"F32","shape":${list},"data_offsets":[0,4]}}`;
const offsets = (list: string) => `{"a":{"dtype":"F32","shape":[1],"data_offsets":${list}}}`;
const bytes = (...parts: (string | number[])[]) =>
  Uint8Array.from(parts.flatMap((part) => typeof part === "string" ? [...new TextEncoder().encode(part)] : part));

const bad: [rule: string, file: Uint8Array, message: string][] = [
  // the length
  ["an empty file", new Uint8Array(), "at least 8 bytes: it has 0"],
  ["seven bytes", new Uint8Array(7), "at least 8 bytes: it has 7"],
  ["a header of no bytes", safetensors(""), "must begin with"],
  ["a header one byte longer than the file", withLength(8n), "bytes 0 to 8 say 8"],
  ["a header of 100,000,001 bytes", withLength(100_000_001n), "at most 100000000 bytes"],
  ["a header of 2^53 + 1 bytes", withLength(2n ** 53n + 1n), "say 9007199254740993"],
  ["a header of 2^64 - 1 bytes", withLength(2n ** 64n - 1n), "say 18446744073709551615"],
  // JSON
  ["white space before the brace", safetensors(" {}"), "begin with"],
  ["a byte order mark", safetensors("\ufeff{}"), "begin with"],
  ["an array", safetensors("[]"), "begin with"],
  ["a brace that is not closed", safetensors("{"), "have a string here: it ends after 1 characters"],
  ["bytes after the closing brace", safetensors("{}x"), 'end after its closing brace: character 2 begins "x"'],
  ["a second object", safetensors("{}{}"), "end after its closing brace"],
  ["NUL padding", safetensors("{}\0\0"), "end after its closing brace"],
  ["a comma before the brace", safetensors(`{"a":{${F32}},}`, 4), "have a string here"],
  ["a missing colon", safetensors(`{"a"{${F32}}}`, 4), 'have ":" here'],
  ["a missing comma", safetensors(`{"a":${at(0, 4)}"b":${at(4, 8)}}`, 8), 'have "}" here'],
  ["a key without quotes", safetensors(`{a:{${F32}}}`, 4), "have a string here"],
  ["a string that does not end", safetensors('{"a'), "close its strings"],
  ["a control character in a name", safetensors(`{"a\n":{${F32}}}`, 4), "no control characters"],
  ["an unknown escape", safetensors(`{"\\x61":{${F32}}}`, 4), "only JSON escapes"],
  ["half a surrogate pair", safetensors(`{"\\ud800":{${F32}}}`, 4), "only JSON escapes"],
  ["a name that is no UTF-8", safetensors(bytes('{"', [0xff], `":{${F32}}}`), 4), "must be UTF-8"],
  ["an overlong UTF-8 form", safetensors(bytes('{"', [0xc0, 0x80], `":{${F32}}}`), 4), "must be UTF-8"],
  ["10,000 nested arrays", safetensors(shape("[".repeat(10_000))), "whole numbers >= 0"],
  ["10,000 nested objects", safetensors('{"a":'.repeat(10_000)), "describe a tensor by"],
  // keys
  ["a tensor twice", safetensors(`{"a":${at(0, 4)},"a":${at(0, 4)}}`, 4), 'unique keys ("a" stands again)'],
  ["a tensor twice, once escaped", safetensors(`{"a":${at(0, 4)},"\\u0061":${at(4, 8)}}`, 8), "unique keys"],
  ["__metadata__ twice", safetensors('{"__metadata__":{},"__metadata__":{}}'), "__metadata__ stands again"],
  ["a metadata key twice", safetensors('{"__metadata__":{"a":"","a":""}}'), "stands again in __metadata__"],
  ["a metadata number", safetensors('{"__metadata__":{"a":1}}'), "have a string here"],
  ["metadata null", safetensors('{"__metadata__":null}'), 'have "{" here'],
  ["dtype twice", safetensors(`{"a":{${F32},"dtype":"F32"}}`, 4), "once each"],
  ["shape twice", safetensors(`{"a":{${F32},"shape":[1]}}`, 4), "once each"],
  ["data_offsets twice", safetensors(`{"a":{${F32},"data_offsets":[0,4]}}`, 4), "once each"],
  ["an unknown key", safetensors(`{"a":{${F32},"stride":[1]}}`, 4), 'not "stride"'],
  ["no dtype", safetensors('{"a":{"shape":[1],"data_offsets":[0,4]}}', 4), 'two data_offsets (tensor "a")'],
  ["no shape", safetensors('{"a":{"dtype":"F32","data_offsets":[0,4]}}', 4), "two data_offsets"],
  ["no data_offsets", safetensors('{"a":{"dtype":"F32","shape":[1]}}', 4), "two data_offsets"],
  ["a name of 1,025 characters", safetensors(`{"${"n".repeat(1025)}":{${F32}}}`, 4), "at most 1024 characters"],
  // dtype, shape
  ["an unknown dtype", safetensors('{"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}}', 4), 'not "F31"'],
  [
    "a dtype of Object.prototype",
    safetensors('{"a":{"dtype":"toString","shape":[],"data_offsets":[0,0]}}'),
    "toString",
  ],
  ["a dtype in lower case", safetensors('{"a":{"dtype":"f32","shape":[1],"data_offsets":[0,4]}}', 4), 'not "f32"'],
  ["a dtype that is a number", safetensors('{"a":{"dtype":32,"shape":[1],"data_offsets":[0,4]}}', 4), "a string"],
  ["a negative size", safetensors(shape("[-1]"), 4), "whole numbers >= 0"],
  ["a size with a fraction", safetensors(shape("[1.0]"), 4), 'have "]" here'],
  ["a size with an exponent", safetensors(shape("[1e0]"), 4), 'have "]" here'],
  ["a size with a leading zero", safetensors(shape("[01]"), 4), "whole numbers >= 0"],
  ["a size that is a string", safetensors(shape('["1"]'), 4), "whole numbers >= 0"],
  ["a size that is null", safetensors(shape("[null]"), 4), "whole numbers >= 0"],
  ["a size of 2^53", safetensors(shape("[9007199254740992]"), 4), "below 2^53"],
  ["a size of 400 digits", safetensors(shape(`[${"9".repeat(400)}]`), 4), "below 2^53"],
  ["sizes whose product overflows", safetensors(shape("[4294967296,4294967296]"), 4), "countable number"],
  ["an overflow that a zero would hide", safetensors(shape("[4294967296,4294967296,0]"), 4), "countable number"],
  ["a byte count that overflows", safetensors(shape("[4503599627370496]"), 4), "countable number"],
  ["65 dimensions", safetensors(shape(`[${Array(65).fill(1)}]`), 4), "at most 64 numbers"],
  ["half a byte of F4", safetensors('{"a":{"dtype":"F4","shape":[1],"data_offsets":[0,1]}}', 1), "whole bytes"],
  // offsets
  ["one offset", safetensors(offsets("[0]"), 4), "two data_offsets"],
  ["three offsets", safetensors(offsets("[0,4,4]"), 4), "at most 2 numbers"],
  ["offsets in the wrong order", safetensors(offsets("[4,0]"), 4), "not 4 to 0"],
  ["fewer bytes than shape and dtype say", safetensors(offsets("[0,3]"), 3), "its 4 bytes, not 0 to 3"],
  ["more bytes than shape and dtype say", safetensors(offsets("[0,8]"), 8), "its 4 bytes, not 0 to 8"],
  ["an offset of 2^53", safetensors(offsets("[0,9007199254740992]"), 4), "below 2^53"],
  ["an end beyond 2^53 in the file", safetensors(offsets("[9007199254740987,9007199254740991]"), 4), "countable"],
  ["data that begins late", safetensors(`{"a":${at(4, 8)}}`, 8), "leave a gap"],
  ["a gap between tensors", safetensors(`{"a":${at(0, 4)},"b":${at(8, 12)}}`, 12), "leave a gap"],
  ["an overlap by one element", safetensors(`{"a":${at(0, 8)},"b":${at(4, 12)}}`, 12), "overlap"],
  ["two tensors in one place", safetensors(`{"a":${at(0, 4)},"b":${at(0, 4)}}`, 4), "overlap"],
  ["one tensor inside another", safetensors(`{"a":${at(0, 12)},"b":${at(4, 8)}}`, 12), "overlap"],
  ["an empty tensor inside another", safetensors(`{"a":${at(0, 8)},"b":${at(4, 4, "[0]")}}`, 8), "overlap"],
  ["data longer than the file", safetensors(`{"a":${at(0, 8)}}`, 4), "must end where the file ends"],
  ["a file cut by one byte", safetensors(`{"a":${at(0, 4)}}`, 3), "must end where the file ends"],
  ["bytes after the last tensor", safetensors(`{"a":${at(0, 4)}}`, 5), "must end where the file ends"],
  ["bytes without a tensor", safetensors("{}", 1), "must end where the file ends"],
];

for (const [rule, file, message] of bad) {
  Deno.test(`parseSafetensorsHeader() refuses ${rule}`, () => {
    const error = assertThrows(
      () => parseSafetensorsHeader(file, file.length, "bad.safetensors"),
      ModelFormatError,
      message,
    );
    assertStringIncludes(error.message, "Cannot read bad.safetensors as ");
    assert(error.message.length < 1500, "a message must not carry the file");
  });
}

const good: [what: string, file: Uint8Array, tensors: string[]][] = [
  ["no tensors", safetensors("{}"), []],
  ["padding by spaces and lines", safetensors("{} \t\r\n  "), []],
  ["white space everywhere", safetensors(`{ "a" :\n{ ${F32.replaceAll(/([:,\]\[])/g, " $1 ")} } }`, 4), [
    "a F32 [1] 0 4",
  ]],
  ["tensors in any order", safetensors(`{"b":${at(4, 12)},"a":${at(0, 4)}}`, 12), ["b F32 [2] 4 12", "a F32 [1] 0 4"]],
  [
    "empty tensors between others",
    safetensors(`{"x":${at(4, 4)},"y":${at(4, 8)},"a":${at(0, 4)},"z":${at(4, 4)}}`, 8),
    [
      ...["x F32 [0] 4 4", "y F32 [1] 4 8", "a F32 [1] 0 4", "z F32 [0] 4 4"],
    ],
  ],
  ["a scalar", safetensors('{"s":{"dtype":"F64","shape":[],"data_offsets":[0,8]}}', 8), ["s F64 [] 0 8"]],
  ["names of Object.prototype", safetensors(`{"__proto__":${at(0, 4)},"constructor":${at(4, 8)}}`, 8), [
    ...["__proto__ F32 [1] 0 4", "constructor F32 [1] 4 8"],
  ]],
  ["escaped and wide names", safetensors(`{"\\u00e9\\n":${at(0, 4)},"🧠":${at(4, 8)}}`, 8), [
    ...["é\n F32 [1] 0 4", "🧠 F32 [1] 4 8"],
  ]],
  ["a name with a byte order mark", safetensors(`{"\ufeffa":${at(0, 4)}}`, 4), ["\ufeffa F32 [1] 0 4"]],
  ["keys in any order", safetensors('{"a":{"data_offsets":[0,2],"shape":[2],"dtype":"U8"}}', 2), ["a U8 [2] 0 2"]],
  [
    "whole bytes of F4 and F6",
    safetensors(
      '{"a":{"dtype":"F4","shape":[2,3],"data_offsets":[0,3]},"b":{"dtype":"F6_E3M2","shape":[4],"data_offsets":[3,6]}}',
      6,
    ),
    ["a F4 [2,3] 0 3", "b F6_E3M2 [4] 3 6"],
  ],
];

for (const [what, file, tensors] of good) {
  Deno.test(`parseSafetensorsHeader() reads ${what}`, () => {
    const header = parseSafetensorsHeader(file, file.length, "good.safetensors");
    const first = 8 + Number(new DataView(file.buffer).getBigUint64(0, true));
    assertEquals(
      [...header.tensors].map(([name, t]) => `${name} ${t.dtype} [${t.shape}] ${t.start - first} ${t.end - first}`),
      tensors,
    );
    for (const [name, tensor] of header.tensors) assertEquals([tensor.name, tensor.file], [name, "good.safetensors"]);
  });
}

Deno.test("parseSafetensorsHeader() reads every dtype of the format", () => {
  for (const [dtype, bits] of Object.entries(DTYPE_BITS)) {
    const file = safetensors({ a: { dtype, shape: [2, 4], data_offsets: [0, bits] } }, bits);
    assertEquals(parseSafetensorsHeader(file, file.length, "x").tensors.get("a")?.dtype, dtype);
  }
  assertEquals(tensorByteLength("F4", [3]), undefined);
  assertEquals(tensorByteLength("F6_E2M3", [4]), 3);
});

Deno.test("parseSafetensorsHeader() keeps metadata, also under names of Object.prototype", () => {
  const file = safetensors('{"__metadata__":{"format":"pt","__proto__":"x","":"\\u20ac"}}');
  assertEquals([...parseSafetensorsHeader(file, file.length, "x").metadata], [
    ...[["format", "pt"], ["__proto__", "x"], ["", "€"]],
  ]);
});

Deno.test("parseSafetensorsHeader() reads offsets beyond 4 GiB from a header alone", () => {
  const end = 2 ** 33;
  const file = safetensors({ a: { dtype: "F16", shape: [end / 2], data_offsets: [0, end] } });
  assertEquals(parseSafetensorsHeader(file, file.length + end, "x").tensors.get("a")?.end, file.length + end);
});

/** A header of `count` scalars, 16 bytes each, whose names are as long as a model's. */
function manyTensors(count: number): Uint8Array {
  const members = Array.from(
    { length: count },
    (_, i) => `"model.layers.${i}.self_attn.q_proj.weight":${at(4 * i, 4 * i + 4)}`,
  );
  return safetensors(`{${members.join()}}`);
}

Deno.test("parseSafetensorsHeader() reads 100,000 tensors in less than a second", () => {
  const file = manyTensors(100_000);
  const times = [1, 2, 3].map(() => {
    const begin = cpuTime();
    assertEquals(parseSafetensorsHeader(file, file.length + 400_000, "x").tensors.size, 100_000);
    return cpuTime() - begin;
  });
  assert(Math.min(...times) < 1000, `the fastest of ${times} ms`);
});

Deno.test("parseSafetensorsHeader() refuses 200,001 tensors and 200,001 strings of metadata", () => {
  const file = manyTensors(200_001);
  assertThrows(
    () => parseSafetensorsHeader(file, file.length + 800_004, "x"),
    ModelFormatError,
    "at most 200000 tensors",
  );
  const strings = safetensors(`{"__metadata__":{${Array.from({ length: 200_001 }, (_, i) => `"${i}":""`).join()}}}`);
  assertThrows(() => parseSafetensorsHeader(strings, strings.length, "x"), ModelFormatError, "at most 200000 strings");
});

Deno.test(`parseSafetensorsHeader() refuses or reads ${RUNS} damaged files (seed ${seed})`, () => {
  const meter = new Meter();
  let read = 0, refused = 0;
  fc.assert(
    fc.property(mutatedSafetensors, (file) => {
      let header;
      try {
        header = meter.step(() => parseSafetensorsHeader(file, file.length, "x"));
      } catch (error) {
        assert(error instanceof ModelFormatError, `${error}`);
        refused++;
        return;
      }
      read++;
      const first = 8 + Number(new DataView(file.buffer, file.byteOffset).getBigUint64(0, true));
      const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(file.subarray(8, first));
      const json = parseJsonText(text) as Record<string, Record<string, unknown>>;
      const { __metadata__: metadata = {}, ...tensors } = json;
      assertEquals(new Map(Object.entries(metadata)), new Map(header.metadata));
      const found = new Map(Object.entries(tensors));
      assertEquals([...header.tensors.keys()].sort(), [...found.keys()].sort());
      let total = first;
      for (const [name, { dtype, shape, start, end }] of header.tensors) {
        assertEquals({ dtype, shape, data_offsets: [start - first, end - first] }, { ...found.get(name) as object });
        total += end - start;
      }
      assertEquals(total, file.length);
    }),
    { numRuns: RUNS, seed },
  );
  assert(read > RUNS / 20 && refused > RUNS / 2, `${read} read, ${refused} refused`);
  assert(meter.slowest < 1000, `the slowest took ${meter.slowest} ms`);
  assert(meter.growth < 64 * 2 ** 20, `the heap grew by ${meter.growth} bytes`);
});
