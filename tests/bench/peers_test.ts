import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { peerGoalRows, peerReached } from "../../bench/peers/goals.ts";
import { Kept } from "../../bench/peers/kept.ts";
import type { Turn } from "../../bench/peers/plan.ts";
import { plan } from "../../bench/peers/plan.ts";
import { reasonFor } from "../../bench/peers/reasons.ts";
import { peerReport, takeTurns } from "../../bench/peers/run.ts";
import { behind, beside, fastest, type PeerLine, rows, tokensOfCpu } from "../../bench/peers/table.ts";
import { output, ProcessError } from "../../bench/process.ts";
import { TemporaryFolder } from "../weights/fixture.ts";

const line = (peer: string, backend: string, dtype: string, rest: Partial<PeerLine>): PeerLine => ({
  peer,
  backend,
  dtype,
  case: "bench-30m_decode64",
  ms_min: 1000,
  n: 1,
  ...rest,
});
const NO_FACTS = { lines: [], cores: 2 };
const short = (ratio: number | undefined) => ratio && Number(ratio.toFixed(6));

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
  assertEquals(found.map(({ theirs, ours, ratio }) => [theirs.peer, ours.dtype, short(ratio)]), [
    ["quick", "f16", 0.25],
    ["slow", "f32", 10],
  ]);
  assertEquals(behind(found, NO_FACTS).length, 1);
  assertStringIncludes(
    behind(found, NO_FACTS)[0]!,
    "4.00 times as fast. Its weights have 4 bits, those of Tensaur's row 16",
  );
});

Deno.test("fastest() keeps the least CPU time apart from the clock, and beside() sets it against ours a token", () => {
  const [found] = fastest([
    line("a", "cpu", "f32", { ms_min: 5, cpu_ms: 7 }),
    line("a", "cpu", "f32", { ms_min: 4, cpu_ms: 8 }),
    line("a", "cpu", "f32", { ms_min: 6 }),
  ]);
  assertEquals([found?.ms_min, found?.cpu_ms], [4, 7]);
  const ours = line("tensaur", "wgpu", "f32", { tok_s: 64, cpu_ms: 2000 }); // 64 tokens
  const theirs = line("a", "webgpu", "f32", { case: "bench-30m_decode16", tok_s: 8, ms_min: 2000, cpu_ms: 3000 });
  const { ratio, cpuRatio } = beside(ours, theirs);
  assertEquals([ratio, short(cpuRatio)], [8, 6]);
  assertEquals(beside(ours, line("b", "cpu", "f32", {})).cpuRatio, undefined);
  assertEquals([tokensOfCpu(ours), tokensOfCpu(line("b", "cpu", "f32", { tok_s: 3 }))], [32, undefined]);
});

Deno.test("behind() says where CPU time tells otherwise", () => {
  const ours = line("tensaur", "wgpu", "f32", { case: "softmax", ms_min: 4, cpu_ms: 2 });
  const [text = ""] = behind(
    [beside(ours, line("a", "webgpu", "f32", { case: "softmax", ms_min: 2, cpu_ms: 6 }))],
    NO_FACTS,
  );
  assertStringIncludes(text, "2.00 times as fast (in CPU time Tensaur, 3.00 times). Tensaur takes less CPU time");
  assertStringIncludes(text, "it had 0.50 of 2 threads busy, the other 2.00.");
});

Deno.test("reasonFor() names figures of the run, and says where it has none", () => {
  const gemm = { case: "gemm_1024" }, gemv = { case: "gemv_4096" };
  const lines = [
    line("tensaur", "wgpu", "f32", { ...gemm, ms_min: 100 }),
    line("onnxruntime", "node-cpu", "f32", { ...gemm, ms_min: 20 }),
    line("tensaur", "wgpu", "f32", { ...gemv, ms_min: 20 }),
    line("onnxruntime", "node-cpu", "f32", { ...gemv, ms_min: 4 }),
    line("onnxruntime", "node-webgpu", "q4f32", { case: "q4_gemv_4096", ms_min: 30 }),
    line("x", "cpu", "f32", { case: "bench-30m_prefill256", ms_min: 93 }),
  ];
  const facts = { lines, ceilings: { copy: 4, fma: 37 }, cores: 2 };
  const ours = (name: string, rest = {}) => line("tensaur", "wgpu", "f32", { case: name, ...rest });
  const why = (name: string, backend: string, dtype = "f32", rest = {}) =>
    reasonFor(beside(ours(name, rest), line("x", backend, dtype, { case: name, ms_min: 15 })), facts);
  assertStringIncludes(
    why("bench-30m_prefill256", "cpu"),
    "reaches 107 GFLOP/s in this run. Through WebGPU ours reaches 21.5",
  );
  assertStringIncludes(why("bench-30m_prefill256", "cpu"), "multiply and add 74.0");
  assertStringIncludes(why("bench-30m_decode64", "cpu"), "reads 16.8 GB/s in this run. Through WebGPU ours reads 3.36");
  assertStringIncludes(why("bench-30m_decode64", "cpu", "q4"), "weights have 4 bits");
  const start = why("bench-30m_startup_first_token", "cpu", "f32", { stages: { device: 70, load: 300 } });
  assertStringIncludes(start, "device 70 ms, load 300 ms; load has");
  assertStringIncludes(start, "the prompt takes 93.0 ms");
  const rounded = line("onnxruntime", "node-webgpu", "q4a8", { case: "q4_gemv_4096", ms_min: 15 });
  assertStringIncludes(reasonFor(beside(ours("q4_gemv_4096"), rounded), facts), "2.00 times as fast as its own kernel");
  assertStringIncludes(why("attn_decode", "webgpu"), "no figure");
  assertStringIncludes(why("bench-30m_decode64", "webgpu"), "no figure");
  assertStringIncludes(reasonFor(beside(ours("gemm_1024"), line("x", "cpu", "f32", gemm)), NO_FACTS), "no figure");
});

Deno.test("reasonFor() tells of a peer on the same device how far both are from what it can do", () => {
  const model = {
    model: "bench-30m",
    dtype: "float16",
    hostPerToken: 160,
    dispatchesPerToken: 54,
    decode: 40,
    weightBytes: 58.8e6,
  };
  const models = [
    { ...model, kernelMilliseconds: 20 } as NonNullable<Parameters<typeof reasonFor>[1]["models"]>[number],
  ];
  const lines = [line("tensaur", "wgpu", "f32", { case: "gemm_1024", ms_min: 100 })];
  const why = (name: string, theirs: Partial<PeerLine>, cores = 1) =>
    reasonFor(
      beside(
        line("tensaur", "wgpu", "f32", { case: name, ms_min: 20, cpu_ms: 20, tok_s: 50 }),
        line("x", "webgpu", "f32", { case: name, ms_min: 10, ...theirs }),
      ),
      { lines, models, cores, ceilings: { copy: 10, fma: 100 } },
    );
  for (
    const [name, theirs, text] of [
      [
        "attn_prefill_mha",
        { gflops: 30, gbps: 1 },
        "reaches 30.0 GFLOP/s, Tensaur's kernel 15.0; one that does nothing but",
      ],
      [
        "attn_decode_mha",
        { gflops: 3, gbps: 8 },
        "reaches 8.00 GB/s, Tensaur's kernel 4.00; one that does nothing but copy",
      ],
      ["attn_decode_mha", { gbps: 8, cpu_ms: 60 }, "reaches 8.00 GB/s"], // CPU time is not the work of a GPU
      [
        "bench-30m_decode64",
        {},
        "in float16, the kernels take 80 % of the time; the host takes 160 µs for 54.0 dispatches",
      ],
      ["bench-30m_prefill256", {}, "two 1024² matrices reaches 21.5 GFLOP/s in this run"],
    ] as const
  ) {
    assertStringIncludes(why(name, theirs), text);
  }
  lines.length = 0;
  const prompt = why("bench-30m_prefill256", { tok_s: 1000 });
  assertStringIncludes(prompt, "weight and token it reaches 58.8 GFLOP/s, Tensaur 2.94; a kernel");
  assertStringIncludes(
    why("attn_prefill_mha", { cpu_ms: 60, gflops: 30 }, 2),
    "1.00 of 2 threads busy, the other 2.00",
  );
});

Deno.test("peerReached() takes the worst row of a goal, and says what was not measured", () => {
  const decode = (peer: string, backend: string, dtype: string, tok_s: number) => line(peer, backend, dtype, { tok_s });
  const found = peerReached([
    decode("tensaur", "wgpu", "f16", 60),
    decode("tensaur", "wgpu", "f32", 30),
    decode("onnxruntime", "node-webgpu", "f32", 5),
    decode("transformers.js", "webgpu", "fp32", 3),
    decode("transformers.js", "cpu", "fp32", 128),
  ]);
  assertEquals(found.flatMap(({ row }) => row ? [[row.theirs.peer, row.ours.dtype, row.ratio]] : []), [
    ["onnxruntime", "f16", 12],
  ]);
  const [head, first, second] = peerGoalRows(found);
  assertEquals(head?.length, first?.length);
  assertStringIncludes(first!.join(), "12.0 × (missed)");
  assertStringIncludes(second!.join(), "not measured");
});

/** A turn that takes no time and answers `answers` one after another. */
function turn(name: string, answers: (string | Error)[], rest: Partial<Turn> = {}): Turn & { taken: number } {
  const made: Turn & { taken: number } = {
    name,
    rounds: 9,
    limit: 1000,
    taken: 0,
    run: () => {
      const answer = answers[made.taken++ % answers.length]!;
      return typeof answer === "string" ? Promise.resolve(answer) : Promise.reject(answer);
    },
    ...rest,
  };
  return made;
}
const text = (ms_min: number) => `noise\n${JSON.stringify(line("p", "cpu", "f32", { ms_min }))}\n`;
const quiet = { budget: 60_000, say: () => {} };

Deno.test("takeTurns() goes on past one that crashes, hangs or prints nothing, and keeps what it had printed", async () => {
  const crash = turn("crash", [new ProcessError("ended with code 1", text(7))]), empty = turn("empty", ["bye\n"]);
  const good = turn("good", [text(3), text(2), text(4)]), once = turn("once", [text(9)], { rounds: 1 });
  const hang = turn("hang", [], {
    run: ({ limit }) =>
      output("sh", ["-c", 'trap \'\' TERM INT; echo \'{"peer":"hung","ms_min":1}\'; exec sleep 20'], { limit }),
    limit: 300,
  });
  const kept = await Kept.open(undefined, "run", false);
  const { lines, missing, rounds } = peerReport(
    await takeTurns([crash, hang, empty, good, once], { ...quiet, rounds: 3, kept }),
  );
  assertEquals([crash.taken, empty.taken, good.taken, once.taken, rounds], [1, 1, 3, 1, 3]);
  assertEquals(missing[0], "crash: ended with code 1");
  assert(/^hang: .*took more than/.test(missing[1]!), missing[1]);
  assertEquals(missing.slice(2), ["empty: it printed no figure"]);
  assertEquals(lines.map(({ peer, ms_min }) => [peer, ms_min]), [["p", 2], ["hung", 1]]);
});

Deno.test("takeTurns() begins nothing that there is no time for", async () => {
  const slow = turn("slow", [text(1)]);
  const none = await takeTurns([slow], {
    ...quiet,
    budget: 100,
    rounds: 3,
    kept: await Kept.open(undefined, "run", false),
  });
  assertEquals([slow.taken, none[0]?.failed], [0, "no time was left"]);
});

Deno.test("takeTurns() says of a turn that was cut short that no time was left", async () => {
  for (const [limit, why] of [[600_000, "no time was left: it was stopped after 0 s"], [9000, "took more"]] as const) {
    const late = turn("late", [new ProcessError("took more", "", true)], { limit });
    const kept = await Kept.open(undefined, "run", false);
    const [found] = await takeTurns([late], { ...quiet, rounds: 1, kept });
    assertEquals(found?.failed, why);
  }
});

Deno.test("takeTurns() starts what has shaders once before it counts: ours at a commit, theirs where they are new", async () => {
  using folder = new TemporaryFolder();
  const file = `${folder.path}/unfinished.jsonl`, starts: string[] = [], said: string[] = [];
  const made = (name: string, rest: Partial<Turn>) =>
    turn(name, [text(3)], { ...rest, warm: () => (starts.push(name), Promise.reject(new Error("no"))) });
  const turns = [made("ours", { ours: true }), made("theirs", {})];
  const take = async (run: string) =>
    await takeTurns(turns, {
      budget: 60_000,
      say: (line) => said.push(line),
      rounds: 2,
      kept: await Kept.open(file, run, true),
    });
  await take("abc");
  assertEquals([starts.splice(0), turns.map(({ taken }) => taken)], [["ours", "theirs"], [2, 2]]);
  await take("abc");
  assertEquals([starts, turns.map(({ taken }) => taken)], [[], [2, 2]]);
  await take("another commit");
  assertEquals([starts, turns.map(({ taken }) => taken)], [["ours"], [4, 4]]);
  assertEquals(said.slice(0, 1), ["peers, round 1 of 2: ours"]);
  assertStringIncludes(said.join(), "theirs (0 s last time)");
});

Deno.test("Kept.open() goes on with what a run of the same commit found, and tries again what failed", async () => {
  using folder = new TemporaryFolder();
  const file = `${folder.path}/unfinished.jsonl`, options = { ...quiet, rounds: 1 };
  const good = turn("good", [text(3)]), bad = turn("bad", [new Error("no"), text(5)]);
  await takeTurns([good, bad], { ...options, kept: await Kept.open(file, "abc", true) });
  Deno.writeTextFileSync(file, '{"round":1,"turn":"broken off', { append: true });
  const found = await takeTurns([good, bad], { ...options, kept: await Kept.open(file, "abc", true) });
  assertEquals([good.taken, bad.taken], [1, 2]);
  assertEquals(found.map(({ turn, failed }) => [turn, failed]), [["good", undefined], ["bad", undefined]]);
  await takeTurns([good, bad], { ...options, kept: await Kept.open(file, "another commit", true) });
  await takeTurns([good, bad], { ...options, kept: await Kept.open(file, "another commit", false) });
  assertEquals([good.taken, bad.taken], [3, 4]);
});

Deno.test("plan() has everyone at a case beside Tensaur, once where it must be quick", () => {
  const names = (quick: boolean) => plan({ model: "m", quick, rounds: 3 }).map(({ name }) => name);
  const all = names(false), some = names(true);
  assert(some.length < all.length && some.every((name) => all.includes(name)));
  assertEquals(new Set(all).size, all.length);
  for (const name of all.filter((name) => !/^bench-30m/.test(name))) {
    assert(all.includes(`${name.split(":")[0]}: tensaur`), name);
  }
});

Deno.test("output() kills what does not end in time, and says what failed", async () => {
  const error = await assertRejects(
    () => output("sh", ["-c", "echo out; echo why >&2; exit 3"]),
    ProcessError,
    "code 3: why",
  );
  assertEquals(error.stdout, "out\n");
  const said: string[] = [];
  await output("sh", ["-c", "printf 'a\\nb'"], { line: (text) => said.push(text) });
  assertEquals(said, ["a"]);
});
