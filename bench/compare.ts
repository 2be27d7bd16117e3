/** Two commits against each other: op by op, the fastest of turns that both take. */
import { denoRun, jsonLines, output } from "./process.ts";
import type { Measurement } from "./measure.ts";
import { readReport, type Report } from "./report.ts";
import { BENCH, opFiles } from "./suite.ts";

/** An op in both. */
export interface Compared {
  op: string;
  /** Milliseconds, of CPU time on a CPU device; of the device's own limit where a file was compared with. */
  before: number;
  now: number;
  /** How many times as fast it is now. */
  ratio: number;
}

/** The ratio under which an op counts as slower. */
export const LEAST_RATIO = 0.8;

/** How to compare. */
export interface CompareOptions {
  /** Parts of names of op benches; none for all. */
  names: readonly string[];
  /** Turns of each. Default 3. */
  rounds?: number;
  /** Called before each step. */
  say: (line: string) => void;
}

/** What was compared, and how. */
export interface Comparison {
  how: string;
  rows: Compared[];
}

type Times = Map<string, number>;

const HARNESS = ["measure.ts", "ceilings.ts", "flags.ts"]; // of today for both, so that both are measured alike

/**
 * Compares with `what`: a commit, or the JSON of a report. A report whose commit Git still has is that commit, run again
 * in turn with this one; else its figures are set against the ceilings of both runs.
 */
export async function compare(what: string, options: CompareOptions): Promise<Comparison> {
  const report = what.endsWith(".json") ? await readReport(what) : undefined;
  if (what.endsWith(".json") && !report) throw new Error(`${what} is not there`);
  const name = report ? report.origin.commit.replace(/-dirty$/, "") : what;
  const commit = await output("git", ["rev-parse", "--verify", "--quiet", `${name}^{commit}`]).catch(() => undefined);
  if (commit) return { how: `interleaved with commit ${name}`, rows: await interleaved(commit.trim(), options) };
  if (!report) throw new Error(`${what} is neither a commit nor a report`);
  return { how: `against ${what}, by the ceilings of both runs`, rows: await normalised(report, options) };
}

/** The rows that count as slower. */
export function slower(rows: readonly Compared[]): Compared[] {
  return rows.filter(({ ratio }) => ratio < LEAST_RATIO);
}

/** Ops of `before` and `now`, the slowest ratio first. */
export function ratios(before: Times, now: Times): Compared[] {
  return [...before].flatMap(([op, old]) => {
    const time = now.get(op);
    return time === undefined ? [] : [{ op, before: old, now: time, ratio: old / time }];
  }).sort((a, b) => a.ratio - b.ratio);
}

async function interleaved(commit: string, { names, rounds = 3, say }: CompareOptions): Promise<Compared[]> {
  const folder = await Deno.makeTempDir({ prefix: "tensaur-compare-" }), tree = `${folder}/tree`;
  await output("git", ["worktree", "add", "--detach", "--quiet", tree, commit]);
  try {
    for (const file of HARNESS) await Deno.copyFile(new URL(file, BENCH), `${tree}/bench/${file}`);
    const before: Times = new Map(), now: Times = new Map();
    for (const file of wanted(names)) {
      say(file);
      const path = `bench/ops/${file}.ts`;
      if (!await Deno.stat(`${tree}/${path}`).then(() => true, () => false)) continue;
      for (let round = 0; round < rounds; round++) {
        keep(before, await measured(`${tree}/${path}`, tree));
        keep(now, await measured(decodeURIComponent(new URL(`../${path}`, BENCH).pathname)));
      }
    }
    return ratios(before, now);
  } finally {
    await output("git", ["worktree", "remove", "--force", tree]);
    await Deno.remove(folder, { recursive: true });
  }
}

async function normalised(report: Report, { names, rounds = 3, say }: CompareOptions): Promise<Compared[]> {
  const before: Times = new Map(), now: Times = new Map();
  for (const op of report.ops) if (!op.plain) before.set(keyOf(op), costOf(op));
  for (const file of wanted(names)) {
    say(file);
    for (let round = 0; round < rounds; round++) {
      for (const op of await measured(decodeURIComponent(new URL(`ops/${file}.ts`, BENCH).pathname))) {
        const key = keyOf(op);
        now.set(key, Math.min(now.get(key) ?? Infinity, costOf(op)));
      }
    }
  }
  return ratios(before, now);
}

function wanted(names: readonly string[]): string[] {
  return opFiles().filter((file) => names.length === 0 || names.some((part) => file.includes(part)));
}

async function measured(path: string, cwd?: string): Promise<Measurement[]> {
  return jsonLines(await denoRun(path, ["--json", "--quick"], { cwd }));
}

const keyOf = ({ name, shape }: Measurement) => `${name} ${shape}`;

/** What an op costs where ceilings are 1: the inverse of its share of the limit. */
const costOf = ({ share }: Measurement) => 1 / share;

function keep(times: Times, found: readonly Measurement[]): void {
  for (const op of found) {
    const key = keyOf(op);
    times.set(key, Math.min(times.get(key) ?? Infinity, op.rated));
  }
}
