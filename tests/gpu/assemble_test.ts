import { assertEquals, assertThrows } from "@std/assert";
import { GpuError } from "../../src/errors.ts";
import { assemble, bindingSlots, type Variant } from "../../src/gpu/assemble.ts";
import { checkVariant, declared } from "../../src/gpu/variants.ts";
import { variantName, variants } from "./variants.ts";

const includes = { "a.wgsl": 'fn a() {}\n// @include "b.wgsl"', "b.wgsl": "// @if LOUD\nfn b() {}\n// @end" };

const cases: [name: string, source: string, variant: Variant, want: string[]][] = [
  ["plain text", "x\n\ny", {}, ["x", "", "y"]],
  ["@if false", "// @if A\nx\n// @end\ny", {}, ["y"]],
  ["@if true", "// @if A\nx\n// @end\ny", { flags: { A: true } }, ["x", "y"]],
  ["@if, indented", "  // @if A  \n  x\n  // @end", { flags: { A: true } }, ["  x"]],
  ["@else", "// @if A\nx\n// @else\ny\n// @end", {}, ["y"]],
  ["@if !", "// @if !A\nx\n// @else\ny\n// @end", {}, ["x"]],
  ["nested, the outer false", "// @if A\n// @if B\nx\n// @else\ny\n// @end\n// @end", { flags: { B: true } }, []],
  ["nested, the inner false", "// @if A\n// @if B\nx\n// @else\ny\n// @end\n// @end", { flags: { A: true } }, ["y"]],
  ["@const", "const N: u32 = 4; // @const", { consts: { N: 8 } }, ["const N: u32 = 8;"]],
  ["@const with values", "const N: u32 = 4; // @const 4 8", { consts: { N: 8 } }, ["const N: u32 = 8;"]],
  ["@const, default", "const N: u32 = 4; // @const", {}, ["const N: u32 = 4; // @const"]],
  ["@const without a type", "const N = 4; // @const", { consts: { N: 2 } }, ["const N = 2;"]],
  ["@header", "// @header\nx", { header: ["enable f16;", "enable subgroups;"] }, [
    "enable f16;",
    "enable subgroups;",
    "x",
  ]],
  ["@header, none", "// @header\nx", {}, ["x"]],
  ["@include, once each, through another", '// @include "a.wgsl"\n// @include "b.wgsl"', { flags: { LOUD: true } }, [
    "fn a() {}",
    "fn b() {}",
  ]],
  ["@include in a branch not taken", '// @if A\n// @include "nowhere.wgsl"\n// @end\nx', {}, ["x"]],
  ["@unroll", "// @unroll\nfor (var i = 0u; i < 2u; i++) {\n  f(i, ii);\n}\nx", {}, [
    ...["{", "  f(0u, ii);", "}"],
    ...["{", "  f(1u, ii);", "}", "x"],
  ]],
  [
    "@unroll to a constant, nested",
    "const N: u32 = 9; // @const\n// @unroll\nfor (var i = 0u; i < N; i++) {\n  // @unroll\n  for (var j = 0u; j < 1u; j++) {\n    f(i, j);\n  }\n}",
    { consts: { N: 1 } },
    ["const N: u32 = 1;", "{", "  {", "    f(0u, 0u);", "  }", "}"],
  ],
  ["declarations stay comments", "// @one-of A B\n// @optional C", {}, ["// @one-of A B", "// @optional C"]],
];

for (const [name, source, variant, want] of cases) {
  Deno.test(`assemble() handles ${name}`, () => {
    assertEquals(assemble("k.wgsl", source, includes, variant).code, want.join("\n"));
  });
}

const faults: [name: string, source: string, variant: Variant, message: string][] = [
  ["an open @if", "// @if A\nx", {}, 'k.wgsl as an @if is not closed by "// @end"'],
  ["an @end too many", "x\n// @end", {}, 'k.wgsl:2 as "// @end" has no "// @if"'],
  ["an @else alone", "// @else", {}, 'k.wgsl:1 as "// @else" has no "// @if"'],
  ["an unknown include", '// @include "c.wgsl"', {}, 'k.wgsl:1 as there is no include file "c.wgsl"'],
  [
    "an unknown constant",
    "const N: u32 = 1;",
    { consts: { N: 2 } },
    'k.wgsl as it has no line "const NAME = …; // @const" for N',
  ],
  [
    "an @unroll of what is no such loop",
    "// @unroll\nfor (var i = 0u; i < n; i++) {\n}",
    {},
    'k.wgsl:1 as "// @unroll" must precede "for (var i = 0u; i < N; i++) {" with a constant N',
  ],
  ["a misspelt directive", "x\n// @fi A", {}, 'k.wgsl:2 as there is no directive "@fi"'],
];

for (const [name, source, variant, message] of faults) {
  Deno.test(`assemble() refuses ${name}`, () => {
    assertThrows(
      () => assemble("k.wgsl", source, includes, variant),
      GpuError,
      `Cannot assemble the shader ${message}`,
    );
  });
}

Deno.test("assemble() says where each line came from", () => {
  const source = '// @header\nx\n// @if A\ny\n// @end\n// @include "a.wgsl"\nz';
  assertEquals(assemble("k.wgsl", source, includes, { header: ["h"], flags: { LOUD: true } }).lines, [
    { file: "k.wgsl", line: 1 },
    { file: "k.wgsl", line: 2 },
    { file: "a.wgsl", line: 1 },
    { file: "b.wgsl", line: 2 },
    { file: "k.wgsl", line: 7 },
  ]);
});

Deno.test("bindingSlots() finds the variables of group 0 in order of index", () => {
  const code = `@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0)
@binding(1) var<uniform> params: vec4<u32>;
@group(0) @binding(3) var<storage> w: array<u32>;
var<workgroup> partial: array<f32, 64>;`;
  assertEquals(bindingSlots(code), [
    { name: "x", index: 0, type: "read-only-storage" },
    { name: "params", index: 1, type: "uniform" },
    { name: "y", index: 2, type: "storage" },
    { name: "w", index: 3, type: "read-only-storage" },
  ]);
});

const shader = `// @one-of F32 F16
// @optional BIAS LOG
// @never BIAS LOG
// @never F16 ROWS=4
const ROWS: u32 = 1; // @const 1 4
const TILE: u32 = 16u; // @const
// @if BIAS
// @end`;

Deno.test("variants() leaves out what is never chosen together", () => {
  assertEquals(variants(shader).map((variant) => variantName("k", variant)), [
    ...["k F32 ROWS=1 TILE=16", "k F32 ROWS=4 TILE=16", "k F32 LOG ROWS=1 TILE=16", "k F32 LOG ROWS=4 TILE=16"],
    ...["k F32 BIAS ROWS=1 TILE=16", "k F32 BIAS ROWS=4 TILE=16"],
    ...["k F16 ROWS=1 TILE=16", "k F16 LOG ROWS=1 TILE=16", "k F16 BIAS ROWS=1 TILE=16"],
  ]);
});

Deno.test("variants() leaves out what is chosen only together", () => {
  const source = "// @optional BIAS LOG\n// @never LOG !BIAS", names = variants(source).map((v) => variantName("k", v));
  assertEquals(names, ["k", "k BIAS", "k BIAS LOG"]);
  assertThrows(() => checkVariant("k", source, { flags: { LOG: true } }), GpuError, "LOG with !BIAS");
});

Deno.test("declared() reads the flags and constants of a shader", () => {
  assertEquals(declared(shader), {
    oneOf: [["F32", "F16"]],
    optional: ["BIAS", "LOG"],
    consts: { ROWS: [1, 4], TILE: [16] },
    never: [["BIAS", "LOG"], ["F16", "ROWS=4"]],
  });
  assertEquals(declared("// @if A\n  // @if !B\n// @end\n// @end\n// @if A\n// @end").optional, ["A", "B"]);
});

const launches: [variant: Variant, message: string | undefined][] = [
  [{ flags: { F32: true } }, undefined],
  [{ flags: { F16: true, F32: false, BIAS: true, MADE_UP: false } }, undefined],
  [{ flags: { F32: true }, consts: { ROWS: 4, TILE: 7 } }, undefined],
  [{}, "Cannot run k as one flag of F32, F16 must be set: current value is none"],
  [{ flags: { F32: true, F16: true } }, "one flag of F32, F16 must be set: current value is F32, F16"],
  [{ flags: { F32: true, BAIS: true } }, "its flags must be among F32, F16, BIAS, LOG: current value is BAIS"],
  [{ flags: { F16: true, BIAS: true }, consts: { ROWS: 1 } }, undefined],
  [{ flags: { F16: true, LOG: true, BIAS: true } }, "must not exclude the choices: current value is BIAS with LOG"],
  [{ flags: { F16: true }, consts: { ROWS: 4 } }, "must not exclude the choices: current value is F16 with ROWS=4"],
  [{ flags: { F32: true }, consts: { ROWS: 2 } }, "ROWS must be one of 1, 4: current value is 2"],
];

for (const [variant, message] of launches) {
  Deno.test(`checkVariant() ${message ? "refuses" : "takes"} ${JSON.stringify(variant)}`, () => {
    if (message) assertThrows(() => checkVariant("k", shader, variant), GpuError, message);
    else checkVariant("k", shader, variant);
  });
}
