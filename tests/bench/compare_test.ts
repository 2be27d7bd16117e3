import { assertEquals, assertStringIncludes } from "@std/assert";
import { ratios, slower, verdict } from "../../bench/compare.ts";
import { pairText } from "../../bench/profiles.ts";
import { stepOf } from "../../bench/step_profile.ts";
import { TemporaryFolder } from "../weights/fixture.ts";

Deno.test("slower() takes ratios under 0.8 of ops that both commits have", () => {
  const before = new Map([["a", 1], ["b", 1], ["gone", 1], ["c", 4]]);
  const now = new Map([["a", 1.3], ["b", 1.25], ["c", 2], ["new", 1]]);
  const found = ratios(before, now);
  assertEquals(found.map(({ op, ratio }) => [op, Number(ratio.toFixed(2))]), [["a", 0.77], ["b", 0.8], ["c", 2]]);
  assertEquals(slower(found).map(({ op }) => op), ["a"]);
});

Deno.test("verdict() refuses what became slower, what is no number, and nothing at all", () => {
  const row = (ratio: number) => ({ op: "a", before: 1, now: 1, ratio });
  assertEquals([[0.8, 3], [0.79, 3], [NaN], []].map((all) => verdict(all.map(row)).well), [true, false, false, false]);
  assertStringIncludes(verdict([row(0.5), row(1)]).text, "1 of 2 under 0.8");
});

const root = new URL("../../", import.meta.url);

async function bench(...args: string[]): Promise<{ code: number; text: string }> {
  const command = ["run", "--allow-all", "--no-check", "--quiet", "bench/all.ts", ...args];
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), { args: command, cwd: root }).output();
  return { code, text: new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr) };
}

/** A report of one op, whose share of the limit is `share`, and of one figure with a goal. */
function saved(share: number, gigaflopsPerSecond = 16): Record<string, unknown> {
  const shape = "[512, 512] x [512, 512]";
  return {
    origin: { commit: "0000000000", isCpu: true },
    ops: [{ name: "matmul f32", shape, share, gigaflopsPerSecond, ceilings: { copy: 1, fma: 1 } }],
    models: [],
    firstTokens: [],
    encoders: [],
    texts: [],
    missing: [],
  };
}

Deno.test("the gate and the comparison end with 1 where a figure is too low, with 2 where they cannot run", async () => {
  using folder = new TemporaryFolder();
  const file = (name: string, value: Record<string, unknown>) => (folder.write(name, value), `${folder.path}/${name}`);
  const good = file("good.json", saved(0.4)), bad = file("bad.json", saved(0.31, 7.9));
  const cases: [code: number, part: string, args: string[]][] = [
    [0, "No figure is under half", ["gate", "--saved", good]],
    [1, "1 under 50 % of their goal", ["gate", "--saved", bad]],
    [0, "None of 1 is under 0.8", ["--compare", bad, "--saved", good]],
    [1, "1 of 1 under 0.8", ["--compare", good, "--saved", bad]],
    [2, "none.json is not there", ["--compare", "none.json"]],
    [2, "neither a commit nor a report", ["--compare", "no-such-commit"]],
    [2, "There is no flag --quik", ["gate", "--quik"]],
    [2, "--limit must be a number above 0: it is soon", ["peers", "--limit", "soon"]],
    [0, "Examples", ["--help"]],
  ];
  const found = await Promise.all(cases.map(([, , args]) => bench(...args)));
  for (const [i, [code, part, args]] of cases.entries()) {
    assertStringIncludes(found[i]!.text, part);
    assertEquals(found[i]!.code, code, args.join(" "));
  }
});

Deno.test("stepOf() takes each kernel at its fastest, and the trace of the fastest step from 0", () => {
  const event = (name: string, ts: number, dur: number) => ({ name, ph: "X", cat: "kernel", ts, dur });
  const events = [
    { name: "thread_name", ph: "M" },
    ...[event("embed A", 0, 1), event("matmul B", 1, 1)], // the prompt
    ...[event("embed A", 10, 9), event("matmul B", 20, 5), event("matmul C", 30, 5)],
    ...[event("embed A", 50, 1), event("matmul B", 52, 6), event("matmul C", 60, 6)],
    { name: "submit", ph: "X", cat: "submit", ts: 0, dur: 1 },
  ];
  const { kernels, trace } = stepOf(JSON.stringify({ displayTimeUnit: "ms", traceEvents: events }));
  assertEquals(kernels, [{ name: "matmul", calls: 2, microseconds: 10 }, { name: "embed", calls: 1, microseconds: 1 }]);
  const { displayTimeUnit, traceEvents } = JSON.parse(trace);
  assertEquals(displayTimeUnit, "ms");
  assertEquals(traceEvents.map(({ name, ts }: { name: string; ts?: number }) => [name, ts ?? -1]), [
    ["thread_name", -1],
    ["embed A", 0],
    ["matmul B", 2],
    ["matmul C", 10],
  ]);
});

Deno.test("pairText() has kernels of either step, and their sums", () => {
  const before = [{ name: "matmul", calls: 2, microseconds: 30 }, { name: "norm", calls: 1, microseconds: 5 }];
  const after = [{ name: "matmul", calls: 1, microseconds: 7 }];
  assertEquals(
    pairText({ model: "m", commit: "abc", now: "def", before, after }).split("\n").map((row) => row.split(/  +/)),
    [
      ["kernel", "calls before", "µs", "calls after", "µs"],
      ["matmul", "2", "30", "1", "7"],
      ["norm", "1", "5"],
      ["all", "3", "35", "1", "7"],
    ],
  );
});
