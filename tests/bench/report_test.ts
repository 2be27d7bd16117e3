import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { ratios, slower } from "../../bench/compare.ts";
import { flagValue, positional } from "../../bench/flags.ts";
import { goalRows, kernelShare, reached, refused } from "../../bench/goals.ts";
import { markdown } from "../../bench/markdown.ts";
import { reasonFor } from "../../bench/peers/reasons.ts";
import { behind, type PeerLine, type PeerReport, rows } from "../../bench/peers/table.ts";
import { jsonLines } from "../../bench/process.ts";
import type { OpResult, Report } from "../../bench/report.ts";

const origin = {
  date: "2026-01-01T00:00:00.000Z",
  commit: "abc1234",
  device: "llvmpipe",
  driver: "Mesa",
  provider: "deno",
  isCpu: true,
  cpu: "CPU",
  cores: 2,
  load: 0,
  deno: "2",
  tensaur: "0",
};

function report(parts: Partial<Report> = {}): Report {
  return {
    origin,
    ceilings: { copy: 5, fma: 40 },
    ops: [],
    models: [],
    firstTokens: [],
    encoders: [],
    texts: [{ title: "Attention", text: "a table" }],
    missing: [],
    ...parts,
  };
}

function gemm(name: string, n: number, gigaflopsPerSecond: number, plain?: true): OpResult {
  const rest = {
    milliseconds: 1,
    cpuMilliseconds: 1,
    rated: 1,
    gigabytesPerSecond: 1,
    share: 0.5,
    file: "matmul_bench",
  };
  const ceilings = { copy: 5, fma: 40 };
  return { name, shape: `[${n}, ${n}] x [${n}, ${n}]`, gigaflopsPerSecond, ...rest, ceilings, ...plain && { plain } };
}

Deno.test("reached() takes the worst figure of a goal, with and without subgroups apart", () => {
  const ops = [gemm("matmul f32", 512, 20), gemm("matmul f16", 1024, 12), gemm("matmul f32", 512, 3, true)];
  const [with_, without] = reached(report({ ops }));
  assertEquals([with_!.value, with_!.share], [12, 0.75]);
  assertEquals([without!.value, without!.share], [3, 3 / 7]);
});

Deno.test("refused() takes what is under half of its goal, and nothing that was not measured", () => {
  const ops = [gemm("matmul f32", 512, 8), gemm("matmul f32", 512, 3.4, true)];
  const bad = refused(reached(report({ ops, firstTokens: [{ model: "bench-30m", warm: 2999, cold: 8001 }] })));
  assertEquals(bad.map(({ work }) => work), [
    "GEMM f32 and f16, 512 and 1024, without",
    "first token of bench-30m, cold",
  ]);
  assertEquals(refused(reached(report())), []);
  assert(goalRows(reached(report())).slice(1).every((row) => row[2] === "not measured"));
});

Deno.test("reached() asks other things of a GPU", () => {
  assert(reached(report({ origin: { ...origin, isCpu: false } })).every(({ unit }) => unit === "%"));
});

Deno.test("kernelShare() is the kernels' part of a token's time, at most all of it", () => {
  const model = { kernelMilliseconds: 8, decode: 100 } as Parameters<typeof kernelShare>[0];
  assertEquals(kernelShare(model), 80);
  assertEquals(kernelShare({ ...model, kernelMilliseconds: 12 }), 100);
  assertEquals(kernelShare({ ...model, kernelMilliseconds: undefined }), undefined);
});

Deno.test("slower() takes ratios under 0.8 of ops that both commits have", () => {
  const before = new Map([["a", 1], ["b", 1], ["gone", 1], ["c", 4]]);
  const now = new Map([["a", 1.3], ["b", 1.25], ["c", 2], ["new", 1]]);
  const found = ratios(before, now);
  assertEquals(found.map(({ op, ratio }) => [op, Number(ratio.toFixed(2))]), [["a", 0.77], ["b", 0.8], ["c", 2]]);
  assertEquals(slower(found).map(({ op }) => op), ["a"]);
});

const line = (peer: string, backend: string, dtype: string, rest: Partial<PeerLine>): PeerLine => ({
  peer,
  backend,
  dtype,
  case: "bench-30m_decode64",
  ms_min: 1000,
  n: 1,
  ...rest,
});

Deno.test("rows() sets the fastest turns against each other, by tokens a second whatever their number", () => {
  const found = rows([
    line("tensaur", "wgpu", "f16", { tok_s: 40 }),
    line("tensaur", "wgpu", "f16", { tok_s: 60 }),
    line("tensaur", "wgpu", "f32", { tok_s: 30 }),
    line("slow", "webgpu", "fp32", { case: "bench-30m_decode16", tok_s: 3 }),
    line("quick", "cpu", "q4", { tok_s: 240 }),
    line("broken", "webgpu", "f32", { error: "no", ms_min: NaN }),
    line("noise", "webgpu", "f32", { ms_min: -1 }),
    line("alone", "webgpu", "f32", { case: "other", ms_min: 1 }),
  ]);
  assertEquals(found.map(({ theirs, ours, ratio }) => [theirs.peer, ours.dtype, Number(ratio.toFixed(6))]), [
    ["quick", "f16", 0.25],
    ["slow", "f32", 10],
  ]);
  const [reason, ...none] = behind(found);
  assertEquals(none, []);
  assertStringIncludes(reason!, "4.00 times as fast. It runs on the CPU itself");
});

Deno.test("reasonFor() knows the kinds of peers, and says where it does not", () => {
  assertStringIncludes(
    reasonFor("q4_gemv_4096", { peer: "onnxruntime", backend: "node-webgpu", dtype: "q4a8" }),
    "8 bits",
  );
  assertStringIncludes(reasonFor("attn_decode", { peer: "x", backend: "webgpu", dtype: "f32" }), "not known");
});

Deno.test("markdown() names everything measured, every slower row and what is missing", () => {
  const lines = [
    line("tensaur", "wgpu", "f32", { case: "gemv_4096", ms_min: 2 }),
    line("other", "webgpu", "f32", { case: "gemv_4096", ms_min: 1 }),
  ];
  const peers: PeerReport = {
    origin,
    versions: { other: "1.2.3" },
    rounds: 2,
    lines,
    missing: ["third: not installed"],
  };
  const text = markdown(report({ ops: [gemm("matmul f32", 512, 20)] }), peers, [{
    name: "bench_ops",
    alt: "A",
    spec: {} as never,
  }]);
  for (
    const part of [
      "other 1.2.3",
      "**0.50**",
      "2.00 times as fast",
      "third: not installed",
      "## Attention\n\n```text\na table\n",
      "docs/bench_ops_dark.svg",
    ]
  ) {
    assertStringIncludes(text, part);
  }
  assertStringIncludes(text, "| matmul f32 | [512, 512] x [512, 512] | 1.000 | 1.00 | 20.0 | 50 % |");
});

Deno.test("positional() leaves out flags and their values", () => {
  const args = ["report", "--limit", "5", "--quick", "softmax"];
  assertEquals(positional(["--limit"], args), ["report", "softmax"]);
  assertEquals(flagValue("--limit", args), "5");
  assertEquals(flagValue("--out", args), undefined);
});

Deno.test("jsonLines() reads objects among other lines", () => {
  assertEquals(jsonLines('warning\n{"a":1}\n\n{"a":2}\n'), [{ a: 1 }, { a: 2 }]);
});
