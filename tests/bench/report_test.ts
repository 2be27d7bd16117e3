import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { badFlag, flagValue, positional } from "../../bench/flags.ts";
import { goalRows, kernelShare, reached, refused } from "../../bench/goals.ts";
import { markdown } from "../../bench/markdown.ts";
import type { PeerReport } from "../../bench/peers/table.ts";
import { jsonLines } from "../../bench/process.ts";
import { type OpResult, type Report, withLast } from "../../bench/report.ts";

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

Deno.test("reached() sets quantized models beside the one in 16 bits", () => {
  const form = { weightBytes: 1, overTheory: 1, peak: 1, dispatchesPerToken: 78 };
  const quantized = [
    { ...form, form: "float16", loadCpu: 100, tokenCpu: 60 },
    { ...form, form: "q4_0", loadCpu: 90, tokenCpu: 40, overTheory: 1.01 },
    { ...form, form: "nf4", loadCpu: 300, tokenCpu: 50, overTheory: 1.04 },
  ];
  const found = reached(report({ quantized })).filter(({ work }) => work.startsWith("bench-120m"));
  assertEquals(found.map(({ value }) => value), [1.5, 1.04, 3]);
  assertEquals(found.map(({ share }) => share! >= 1), [true, false, false]);
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
  const ops = [{ ...gemm("matmul f16", 4096, 7400), gigabytesPerSecond: 1 }];
  const found = reached(report({ origin: { ...origin, isCpu: false }, ops }));
  assertEquals(found.map(({ unit, value }) => [unit, value]), [
    ["%", undefined],
    ["%", undefined],
    ...Array.from({ length: 3 }, () => ["×", undefined]),
    ["TFLOP/s", 7.4],
    ["tok/s", undefined],
  ]);
  assertEquals(refused(found).map(({ work }) => work), ["GEMM f16 4096³"]);
});

Deno.test("kernelShare() is the kernels' part of a token's time, at most all of it", () => {
  const model = { kernelMilliseconds: 8, decode: 100 } as Parameters<typeof kernelShare>[0];
  assertEquals(kernelShare(model), 80);
  assertEquals(kernelShare({ ...model, kernelMilliseconds: 12 }), 100);
  assertEquals(kernelShare({ ...model, kernelMilliseconds: undefined }), undefined);
});

Deno.test("markdown() names everything measured, every slower row and what is missing", () => {
  const lines = [
    { peer: "tensaur", backend: "wgpu", dtype: "f32", case: "gemv_4096", ms_min: 2, n: 1 },
    { peer: "other", backend: "webgpu", dtype: "f32", case: "gemv_4096", ms_min: 1, n: 1 },
  ];
  const peers: PeerReport = {
    origin,
    versions: { other: "1.2.3" },
    rounds: 2,
    lines,
    missing: ["third: not installed"],
  };
  const kernels = [{ name: "add", calls: 2, microseconds: 30 }], after = [{ name: "add", calls: 1, microseconds: 7 }];
  const step = { model: "m", commit: "abc", now: "def", before: kernels, after, traces: {} };
  const text = markdown(report({ ops: [gemm("matmul f32", 512, 20)], step }), peers, [{
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
      "bench/results/decode_step_m_before.json",
      "all                2  30            1   7",
    ]
  ) {
    assertStringIncludes(text, part);
  }
  assertStringIncludes(text, "| matmul f32 | [512, 512] x [512, 512] | 1.000 | 1.00 | 20.0 | 50 % |");
});

Deno.test("markdown() says of speculation where and when its figures were measured, and of which commit", () => {
  const result = {
    name: "large, draft of 3",
    tokens: 96,
    passes: 28,
    tokensPerPass: 24 / 7,
    wallRatio: 1.6,
    cpuRatio: 1.7,
  };
  const speculation = { origin: { ...origin, commit: "def5678", load: 3 }, results: [{ ...result, acceptance: 0.8 }] };
  const text = markdown(report({ speculation }), undefined, []);
  assertStringIncludes(
    text,
    "llvmpipe, commit def5678, 2026-01-01T00:00:00.000Z, 3.0 busy threads before. Other programs",
  );
  assertStringIncludes(text, "| large, draft of 3 | 96 | 3.43 | 80 % | 1.60 | 1.70 |");
});

Deno.test("positional() leaves out flags and their values", () => {
  const args = ["report", "--limit", "5", "--quick", "softmax"];
  assertEquals(positional(["--limit"], args), ["report", "softmax"]);
  assertEquals(flagValue("--limit", args), "5");
  assertEquals(flagValue("--out", args), undefined);
  assertEquals(flagValue("--limit", ["--limit", "--quick"]), undefined);
});

Deno.test("badFlag() names a flag that there is not, and one that lacks its value", () => {
  const bad = (...args: string[]) => badFlag(["--limit", "--saved"], ["--quick"], args);
  assertEquals(bad("peers", "--quick", "--limit", "5", "--saved"), undefined);
  assertEquals(bad("--quik"), "There is no flag --quik");
  assertEquals(bad("--limit"), "--limit needs a value");
  assertEquals(bad("--limit", "--quick"), "--limit needs a value");
});

Deno.test("jsonLines() reads objects among other lines, and none that broke off", () => {
  assertEquals(jsonLines('warning\n{"a":1}\n\n{"a":2}\n{"a":'), [{ a: 1 }, { a: 2 }]);
});

Deno.test("withLast() keeps what a short run left out, and says which run it is of", () => {
  const caches = { origin: { ...origin, commit: "old" }, results: [] };
  const last = report({ caches, texts: [{ title: "Attention", text: "old" }, { title: "Quantized", text: "rows" }] });
  const found = withLast(report({ missing: ["caches: no time was left"] }), last);
  assertEquals(found.caches?.origin.commit, "old");
  assertEquals(found.texts.map(({ title }) => title), ["Attention", "Quantized"]);
  assertEquals(found.texts[0]!.text, "a table");
  assertEquals(found.texts[1]!.text, "2026-01-01T00:00:00.000Z, commit abc1234, 0.0 busy threads before\nrows");
  assertEquals(withLast(found, last).texts, found.texts);
  assertEquals(withLast(found, undefined), found);
});
