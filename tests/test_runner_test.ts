// tools/test.ts: what it counts, which steps it plans, and that nothing makes it wait for ever.
import { assert, assertEquals } from "@std/assert";
import { countTests, inTurn, planSteps, restOf, runStep, slowestFiles } from "../tools/test.ts";

const green =
  "running 4 tests from ./tests/a_test.ts\na ... ok (1ms)\nb ... ignored (0ms)\nskipped: no data ... ok (0ms)\n" +
  "c ...\n  step ... ok (0ms)\nc ... ok (1ms)\n\nok | 3 passed (1 step) | 0 failed | 1 ignored (9ms)\n";
const counted: [name: string, output: string, ok: boolean, passed: number, failed: number, skipped: number][] = [
  ["a green run", green, true, 2, 0, 2],
  ["a red run", "a ... ok (1ms)\nb ... FAILED (1ms)\n\nFAILED | 1 passed | 1 failed (2ms)\n", false, 1, 1, 0],
  ["filtered tests", "ok | 1 passed | 0 failed | 27 filtered out (2ms)\n", true, 1, 0, 0],
  ["a crash in the third test", "a ... ok (1ms)\nb ... ok (1ms)\nc ...", false, 2, 1, 0],
  ["a crash before the first test", "", false, 0, 1, 0],
  ["an error outside the tests", "ok | 2 passed | 0 failed (2ms)\n", false, 2, 1, 0],
  [
    "a test that prints a summary's words",
    "a ...\nok then | no\na ... ok (1ms)\n\nok | 1 passed | 0 failed (1ms)\n",
    true,
    1,
    0,
    0,
  ],
];
for (const [name, output, ok, passed, failed, skipped] of counted) {
  Deno.test(`countTests() counts ${name}`, () => assertEquals(countTests(output, ok), { passed, failed, skipped }));
}

const checks = [
  "deno fmt --check",
  "deno lint",
  "deno check",
  "deno doc --lint mod.ts src/ops/mod.ts cli.ts",
  "deno publish --dry-run --allow-dirty --no-check",
];
const files = [
  "tests/layers_test.ts",
  "tests/ops/rms_norm_test.ts",
  "tests/ops/matmul_test.ts",
  "tests/gpu/x/y_test.ts",
];
const planned: [filters: string[], steps: string[], files: number, byName?: string][] = [
  [[], [...checks, "doc", "tests", "tests/ops", "tests/gpu"], 4],
  [["check"], checks, 0],
  [["doc", "layers"], ["doc", "tests"], 1],
  [["ops/"], ["tests/ops"], 2],
  [["matmul", "gpu"], ["tests/ops", "tests/gpu"], 2],
  [["equals its [reference]"], ["tests", "tests/ops", "tests/gpu"], 4, "/equals its \\[reference\\]/"],
];
for (const [filters, names, count, byName] of planned) {
  Deno.test(`planSteps() selects ${names.length} steps for ${JSON.stringify(filters)}`, () => {
    const steps = planSteps(files, filters);
    assertEquals(steps.map((step) => step.name), names);
    const args = steps.filter((step) => step.name.startsWith("tests")).flatMap((step) => step.args);
    assertEquals(args.filter((arg) => arg.endsWith("_test.ts")).length, count);
    assertEquals(args.includes("--filter") ? args[args.indexOf("--filter") + 1] : undefined, byName);
  });
}

Deno.test("planSteps() runs at most 8 files of a folder in a process, each of them once", () => {
  const many = Array.from({ length: 25 }, (_, i) => `tests/ops/a${i}_test.ts`);
  const steps = planSteps(many, ["ops/"]), of = (args: string[]) => args.filter((arg) => arg.endsWith("_test.ts"));
  assertEquals(steps.map(({ name, args }) => [name, of(args).length]), [
    ["tests/ops 1/4", 7],
    ["tests/ops 2/4", 7],
    ["tests/ops 3/4", 7],
    ["tests/ops 4/4", 4],
  ]);
  assertEquals(steps.flatMap(({ args }) => of(args)), many);
});

const begins = (file: string) => `running 2 tests from ./${file}\na ... ok (1ms)\n`;
const broken: [name: string, output: string, left: string[]][] = [
  ["of a run that ended", `${begins("a_test.ts")}\nFAILED | 1 passed | 1 failed (2ms)\n`, []],
  ["after a crash in the second file", begins("a_test.ts") + begins("b_test.ts"), ["c_test.ts"]],
  ["after a crash in the last file", ["a_test.ts", "b_test.ts", "c_test.ts"].map(begins).join(""), []],
  ["after a crash while the first file was loaded", "Warning: a driver's\n", ["b_test.ts", "c_test.ts"]],
];
for (const [name, output, left] of broken) {
  Deno.test(`restOf() runs the files that had not begun ${name}`, () => {
    const step = { name: "tests/x", args: ["test", "--no-check", "a_test.ts", "b_test.ts", "c_test.ts"] };
    const want = left.length > 0 ? { name: "tests/x", args: ["test", "--no-check", ...left] } : undefined;
    assertEquals(restOf(step, output), want);
  });
}

Deno.test("slowestFiles() adds up what the tests of a file took", () => {
  const output =
    "running 3 tests from ./a_test.ts\na ... ok (1m2s)\nb ...\n  step ... ok (9s)\nb ... FAILED (500ms)\n" +
    "c ... ignored (0ms)\n\nok | 2 passed | 0 failed (9m)\nrunning 1 test from ./b/c_test.ts\nfirst ... second ... ok (70s)\n" +
    "running 1 test from ./d_test.ts\nd ... ok (250ms)\ne ... ok (7µs)\n";
  assertEquals(slowestFiles(output), [["b/c_test.ts", 70], ["a_test.ts", 62.5], ["d_test.ts", 0.250007]]);
  assertEquals(slowestFiles(output, 1), [["b/c_test.ts", 70]]);
  assertEquals(slowestFiles("crashed"), []);
});

const script = (code: string) => ({ name: "script", args: ["eval", code] });
Deno.test("runStep() passes output on and counts a process by its exit code", async () => {
  let printed = "";
  const counts = await runStep(script("console.log('out'); console.error('err')"), (text) => printed += text);
  assertEquals(counts, { passed: 1, failed: 0, skipped: 0 });
  assert(printed.includes("out") && printed.includes("err"));
  assertEquals((await runStep(script("Deno.exit(3)"), () => {})).failed, 1);
});

Deno.test("runStep() ends a process that falls silent, and names its last line", async () => {
  let printed = "";
  const hang = script("console.log('slow test ...'); setInterval(() => {}, 1000)");
  const counts = await runStep(hang, (text) => printed += text, 4000);
  assertEquals(counts, { passed: 0, failed: 1, skipped: 0 });
  assert(
    printed.includes("script: stopped, as it printed nothing for 4 s; its last line was: slow test ..."),
    printed,
  );
});

Deno.test("inTurn() writes what runs side by side one after the other, the oldest at once", () => {
  let written = "";
  const begin = inTurn((text) => written += text), first = begin(), second = begin();
  second.print("b");
  first.print("a");
  assertEquals(written, "a");
  second.print("c");
  second.end();
  const third = begin();
  third.print("e");
  assertEquals(written, "a");
  first.end();
  assertEquals(written, "abce");
  third.print("f");
  assertEquals(written, "abcef");
});
