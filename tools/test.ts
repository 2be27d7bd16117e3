/**
 * The gate and the test suite: `./tensaur test [filter...] [--full]`, `deno task ok`.
 *
 * Runs the static checks, the examples in the docs and the folders of tests/, 8 files at most in a process and two
 * processes at a time; where one crashes or hangs, the files that it had not begun run in another. The slowest files are
 * named at the end; the last line is `N passed, N failed`.
 *
 * @module
 */
import { parseArgs } from "node:util";
import config from "../deno.json" with { type: "json" };

/** A process of the run: its name in the report and the arguments of deno. */
export interface Step {
  /** What the report calls it. */
  name: string;
  /** Arguments of deno. */
  args: string[];
}

/** How many tests ended how. */
export interface Counts {
  /** Ran and held. */
  passed: number;
  /** Ran and did not hold, crashed, or never ended. */
  failed: number;
  /** Left out on purpose: ignored, or named "skipped: …" for want of data. */
  skipped: number;
}

const root = new URL("../", import.meta.url);
const documented = ["mod.ts", "src", "README.md"];
const frozen = Deno.env.get("CI") ? ["--frozen"] : []; // elsewhere a new dependency may enter deno.lock
const testFlags = ["--allow-all", "--no-check", "--sanitize-resources", "--sanitize-ops", ...frozen];
const docFlags = ["--allow-all", "--sanitize-resources", "--sanitize-ops", ...frozen];
const SLOWEST = 10; // files that are named at the end of a whole run
const FILES = 8; // of tests in a process: drivers and native modules fail more as it gets older, and lanes end together
const LANES = 2; // processes at a time: alone, one leaves half of two cores idle (JS and shader compiles use one core)
const idleLimit = 300_000; // ms without a line: the slowest shader compiles in 60 s on a CPU driver
const summary = /^(ok|FAILED) \| \d+ passed/m; // of `deno test`, at its end
const usage = `Usage: ./tensaur test [filter...] [--full]

  filter   "check" (format, lint, types, package), "doc" (examples in the docs), a part of a test file's path,
           or, where no path has it, a part of a test's name; nothing runs everything
  --full   the long tests too`;

/** Reads what `deno test` printed; a run that broke off counts what it finished, and one failure. */
export function countTests(output: string, ok: boolean): Counts {
  const summary = [...output.matchAll(/^(?:ok|FAILED) \| (\d+) passed.*? \| (\d+) failed/gm)].at(-1);
  const count = (pattern: RegExp) => (output.match(pattern) ?? []).length;
  const named = count(/^skipped: .* \.\.\. ok \(/gm);
  const passed = summary ? Number(summary[1]) : count(/^\S.* \.\.\. ok \(/gm);
  const failed = summary ? Number(summary[2]) : count(/^\S.* \.\.\. FAILED \(/gm);
  const ignored = count(/^\S.* \.\.\. ignored \(/gm);
  return { passed: passed - named, failed: ok ? failed : Math.max(failed, 1), skipped: ignored + named };
}

/** Seconds that the tests of each file took, by what `deno test` printed, the slowest file first. */
export function slowestFiles(output: string, most = SLOWEST): [file: string, seconds: number][] {
  const taken = new Map<string, number>(), units = { m: 60, s: 1, ms: 1e-3, "µs": 1e-6 };
  let file = "";
  for (
    const [, begun, took] of output.matchAll(/^running \d+ tests? from \.\/(\S+)|^\S.* \.\.\. \w+ \(([\wµ]+)\)$/gm)
  ) {
    if (begun) file = begun;
    for (const [, number, unit] of took?.matchAll(/(\d+)(ms|µs|m|s)/g) ?? []) {
      taken.set(file, (taken.get(file) ?? 0) + Number(number) * units[unit as keyof typeof units]);
    }
  }
  return [...taken].sort((a, b) => b[1] - a[1]).slice(0, most);
}

function checkStep(command: string): Step {
  return { name: command, args: command.split(" ").slice(1) };
}

/** The steps that `filters` select from the test `files` (paths from the root); all of them without filters. */
export function planSteps(files: readonly string[], filters: readonly string[]): Step[] {
  const wants = (name: string) => filters.length === 0 || filters.includes(name);
  const paths = filters.filter((f) => f !== "check" && f !== "doc");
  const chosen = files.filter((file) => filters.length === 0 || paths.some((f) => file.includes(f)));
  const byName = chosen.length === 0 && paths.length > 0;
  const nameFlags = byName
    ? ["--filter", `/${paths.map((f) => f.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&")).join("|")}/`]
    : [];

  const folders = Map.groupBy(byName ? files : chosen, (file) => file.split("/").slice(0, -1).slice(0, 2).join("/"));
  return [
    ...(wants("check") ? config.tasks.check.split(" && ").map(checkStep) : []),
    ...(wants("doc") ? [{ name: "doc", args: ["test", "--doc", ...docFlags, ...documented] }] : []),
    ...folders.entries().flatMap(([name, list]) => {
      const parts = Math.ceil(list.length / FILES), size = Math.ceil(list.length / parts);
      return Array.from({ length: parts }, (_, i) => ({
        name: parts > 1 ? `${name} ${i + 1}/${parts}` : name,
        args: ["test", ...testFlags, ...nameFlags, ...list.slice(i * size, (i + 1) * size)],
      }));
    }),
  ];
}

/** Runs one step, handing each line of its output to `print`; ends it when it says nothing for `limit` ms. */
export async function runStep(step: Step, print: (text: string) => void, limit = idleLimit): Promise<Counts> {
  const child = new Deno.Command(Deno.execPath(), {
    args: step.args,
    cwd: root,
    env: { NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  let output = "";
  const idle = new AbortController();
  let timer = setTimeout(() => idle.abort(), limit);
  const read = async (stream: ReadableStream<Uint8Array>) => {
    for await (const text of stream.pipeThrough(new TextDecoderStream(), { signal: idle.signal })) {
      output += text;
      print(text);
      clearTimeout(timer);
      timer = setTimeout(() => idle.abort(), limit);
    }
  };
  let ended = false;
  idle.signal.addEventListener("abort", () => {
    if (!ended) child.kill("SIGKILL"); // its own children may outlive it and hold the pipes
  });
  const reading = Promise.allSettled([read(child.stdout), read(child.stderr)]); // ended by the abort too
  const { success, signal } = await child.status;
  ended = true;
  await reading;
  clearTimeout(timer);
  if (idle.signal.aborted) {
    const last = output.trimEnd().split("\n").at(-1);
    print(`\n${step.name}: stopped, as it printed nothing for ${limit / 1000} s; its last line was: ${last}\n`);
  }
  // Mesa's CPU driver crashes at times as a process ends: after a green summary that is told, and is no failed test.
  if (signal !== null && !idle.signal.aborted && !summary.test(output)) {
    print(`\n${step.name}: the process ended by ${signal} in ${begunFiles(output).at(-1) ?? "its first file"}\n`);
  }
  const late = signal !== null && /^ok \| \d+ passed.* \| 0 failed/m.test(output);
  if (late) print(`\n${step.name}: the process ended by ${signal} after its last test\n`);
  if (step.args[0] === "test") return countTests(output, success || late);
  return { passed: Number(success), failed: Number(!success), skipped: 0 };
}

function begunFiles(output: string): string[] {
  return [...output.matchAll(/^running \d+ tests? from \.\/(\S+)/gm)].map(([, file]) => file!);
}

/** What is left of a step whose `output` broke off: the files of tests after the one that it broke off in. */
export function restOf(step: Step, output: string): Step | undefined {
  if (step.args[0] !== "test" || summary.test(output)) return undefined;
  const isFile = (arg: string) => arg.endsWith("_test.ts");
  const begun = begunFiles(output), left = step.args.filter((arg) => isFile(arg) && !begun.includes(arg));
  if (begun.length === 0) left.shift(); // it broke off while that one was loaded
  return left.length > 0 ? { ...step, args: [...step.args.filter((arg) => !isFile(arg)), ...left] } : undefined;
}

/** What came of a step. */
interface Report {
  step: Step;
  counts: Counts;
  output: string;
}

/** Runs one step and, where a process of it breaks off, the rest in another. */
async function runAll(step: Step, print: (text: string) => void): Promise<Report> {
  const all: Report = { step, counts: { passed: 0, failed: 0, skipped: 0 }, output: "" };
  for (let rest: Step | undefined = step; rest;) {
    let output = "";
    const counts = await runStep(rest, (text) => {
      output += text;
      print(text);
    });
    add(all.counts, counts);
    rest = restOf(rest, output);
    all.output += output;
  }
  return all;
}

/** Gives each step a printer: the oldest one that has not ended writes at once, the others when it has. */
export function inTurn(write: (text: string) => void): () => { print: (text: string) => void; end: () => void } {
  const turns: { held: string; ended: boolean }[] = [];
  const flush = () => {
    for (let first = turns[0]; first; first = turns[0]) {
      write(first.held);
      first.held = "";
      if (!first.ended) return;
      turns.shift();
    }
  };
  return () => {
    const turn = { held: "", ended: false };
    turns.push(turn);
    const print = (text: string) => {
      turn.held += text;
      if (turns[0] === turn) flush();
    };
    const end = () => {
      turn.ended = true;
      flush();
    };
    return { print, end };
  };
}

/** Runs all steps in their order, as many at a time as there are lanes. */
async function runPlan(steps: readonly Step[]): Promise<Report[]> {
  const reports: Report[] = [], left = steps.values(), begin = inTurn(write);
  const runLane = async () => {
    for (const step of left) {
      const start = performance.now(), { print, end } = begin();
      print(`\n== ${step.name}\n`);
      const report = await runAll(step, print), { passed, failed } = report.counts;
      const seconds = ((performance.now() - start) / 1000).toFixed(1);
      print(`== ${step.name}: ${passed} passed, ${failed} failed, ${seconds} s\n`);
      end();
      reports.push(report);
    }
  };
  await Promise.all(Array.from({ length: LANES }, runLane));
  return reports;
}

function add(total: Counts, counts: Counts): void {
  for (const key of ["passed", "failed", "skipped"] as const) total[key] += counts[key];
}

function testFiles(folder: string): string[] {
  return [...Deno.readDirSync(new URL(folder, root))].toSorted((a, b) => a.name < b.name ? -1 : 1).flatMap((entry) => {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory) return testFiles(path);
    return entry.name.endsWith("_test.ts") ? [path] : [];
  });
}

function write(text: string): void {
  for (let rest = new TextEncoder().encode(text); rest.length > 0;) rest = rest.subarray(Deno.stdout.writeSync(rest));
}

function readArguments(): { full?: boolean; help?: boolean; filters: string[] } {
  const options = { full: { type: "boolean" }, help: { type: "boolean", short: "h" } } as const;
  try {
    const { values, positionals } = parseArgs({ allowPositionals: true, options });
    return { ...values, filters: positionals };
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${usage}`);
    Deno.exit(2);
  }
}

async function main(): Promise<number> {
  const { full, help, filters } = readArguments();
  if (help) {
    console.log(usage);
    return 0;
  }
  if (full) Deno.env.set("TENSAUR_TEST_FULL", "1");
  const total: Counts = { passed: 0, failed: 0, skipped: 0 };
  const reports = await runPlan(planSteps(testFiles("tests"), filters));
  for (const { counts } of reports) add(total, counts);
  const red = reports.filter(({ counts }) => counts.failed > 0).map(({ step }) => step.name);
  const tests = reports.filter(({ step }) => step.name.startsWith("tests"));
  if (tests.length > 1) {
    const slowest = slowestFiles(tests.map(({ output }) => output).join("\n"));
    const lines = slowest.map(([file, seconds]) => `  ${seconds.toFixed(1).padStart(6)} s  ${file}`);
    write(`\nslowest files:\n${lines.join("\n")}\n`);
  }
  const none = total.passed + total.failed === 0;
  if (none) write(`\nNo test matches: ${filters.join(" ")}\n`);
  if (red.length > 0) write(`\nfailed: ${red.join(", ")}\n`);
  write(`\n${total.passed} passed, ${total.failed} failed${total.skipped ? `, ${total.skipped} skipped` : ""}\n`);
  return none || total.failed > 0 ? 1 : 0;
}

if (import.meta.main) Deno.exit(await main());
