/** Two commits against each other: op by op and token by token, the fastest of turns that both take. */
import { denoRun, jsonLines, ProcessError } from "./process.ts";
import type { TokenTime } from "./compare_model.ts";
import type { Measurement } from "./measure.ts";
import { readReport, type Report } from "./report.ts";
import { BENCH, opFiles, TINY } from "./suite.ts";
import { commitOf, withCommit } from "./worktree.ts";

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
  /** Parts of names of op benches, or of "model"; none for all. */
  names: readonly string[];
  /** Part of the ops and shapes that are measured. */
  only?: string;
  /** Turns of each. Default 3. */
  rounds?: number;
  /** A report to judge instead of this commit, as it is. */
  saved?: Report;
  /** Called before each step. */
  say: (line: string) => void;
}

/** What was compared, and how. */
export interface Comparison {
  how: string;
  rows: Compared[];
}

type Times = Map<string, number>;
type Timed = Pick<Measurement, "name" | "shape" | "rated">;

const HARNESS = ["measure.ts", "ceilings.ts", "flags.ts"]; // of today for both, so that both are measured alike
const MODEL = "compare_model.ts", ROUNDS = 3;

/**
 * Compares with `what`: a commit, or the JSON of a report. A report whose commit Git still has is that commit, checked out
 * beside and run in turn with this one; else its figures are set against the ceilings of both runs.
 */
export async function compare(what: string, options: CompareOptions): Promise<Comparison> {
  const report = what.endsWith(".json") ? await readReport(what) : undefined;
  if (what.endsWith(".json") && !report) {
    throw new Error(`${what} is not there: deno task bench --save ${what} writes one`);
  }
  if (options.saved && !report) throw new Error(`With --saved, ${what} must be a report (.json)`);
  const name = report ? report.origin.commit.replace(/-dirty$/, "") : what, { saved } = options;
  const commit = saved ? undefined : await commitOf(name);
  if (commit) return { how: `In turn with commit ${name}`, rows: await interleaved(commit, options) };
  if (!report) throw new Error(`${what} is neither a commit nor a report (.json)`);
  const now = saved ? sharesOf(saved) : await measuredShares(options);
  return { how: `Against ${what}, by the ceilings of both runs`, rows: ratios(sharesOf(report), now) };
}

/** The rows that count as slower. */
export function slower(rows: readonly Compared[]): Compared[] {
  return rows.filter(({ ratio }) => !(ratio >= LEAST_RATIO));
}

/** Whether all is well, and in words. Where nothing could be compared it is not. */
export function verdict(rows: readonly Compared[]): { well: boolean; text: string } {
  const bad = slower(rows);
  if (rows.length === 0) return { well: false, text: "Nothing could be compared: no op has a bench in both" };
  if (bad.length === 0) return { well: true, text: `None of ${rows.length} is under ${LEAST_RATIO} of its speed` };
  return { well: false, text: `${bad.length} of ${rows.length} under ${LEAST_RATIO} of their speed` };
}

/** Ops of `before` and `now`, the slowest ratio first. */
export function ratios(before: Times, now: Times): Compared[] {
  return [...before].flatMap(([op, old]) => {
    const time = now.get(op);
    return time === undefined ? [] : [{ op, before: old, now: time, ratio: old / time }];
  }).sort((a, b) => a.ratio - b.ratio);
}

/** Both in turn; where something seems slower, they have as many turns again before it counts. */
async function interleaved(commit: string, options: CompareOptions): Promise<Compared[]> {
  const { names, only = "", rounds = ROUNDS, say } = options, here = decodeURIComponent(BENCH.pathname);
  return await withCommit(commit, [...HARNESS, MODEL], async (tree) => {
    const before: Times = new Map(), now: Times = new Map();
    const turns = async (script: string, args: string[]) => {
      for (let round = 0; round < rounds; round++) {
        keep(before, jsonLines(await denoRun(`${tree}/bench/${script}`, args, { cwd: tree })));
        keep(now, jsonLines(await denoRun(`${here}${script}`, args)));
      }
    };
    for (const file of wanted(names)) {
      const model = file === "model", script = model ? MODEL : `ops/${file}.ts`;
      if (!model && !await Deno.stat(`${tree}/bench/${script}`).then(() => true, () => false)) continue;
      const args = model ? [TINY] : ["--json", "--quick", ...only ? ["--only", only] : []],
        old = new Set(before.keys());
      say(file);
      try {
        await turns(script, args);
        const rows = () => slower(ratios(before, now)).filter(({ op }) => !old.has(op));
        if (rows().length) say(`  ${rows().map(({ op, ratio }) => `${op} ${ratio.toFixed(2)}`).join(", ")}: once more`);
        if (rows().length) await turns(script, args);
      } catch (error) {
        if (!(error instanceof ProcessError)) throw error;
        say(`  not compared: ${error.message}`);
      }
    }
    return ratios(before, now);
  });
}

/** What ops of this commit cost where ceilings are 1. */
async function measuredShares({ names, only = "", rounds = ROUNDS, say }: CompareOptions): Promise<Times> {
  const now: Times = new Map(), args = ["--json", "--quick", ...only ? ["--only", only] : []];
  for (const file of wanted(names).filter((file) => file !== "model")) {
    say(file);
    for (let round = 0; round < rounds; round++) {
      const found = jsonLines<Measurement>(await denoRun(new URL(`ops/${file}.ts`, BENCH), args));
      keep(now, found.map((op) => ({ ...op, rated: 1 / op.share })));
    }
  }
  return now;
}

/** The same of a report. */
function sharesOf({ ops }: Report): Times {
  return new Map(ops.filter(({ plain }) => !plain).map(({ name, shape, share }) => [`${name} ${shape}`, 1 / share]));
}

function wanted(names: readonly string[]): string[] {
  return [...opFiles(), "model"].filter((file) => names.length === 0 || names.some((part) => file.includes(part)));
}

function keep(times: Times, found: readonly (Timed | TokenTime)[]): void {
  for (const { name, shape, rated } of found) {
    const key = `${name} ${shape}`;
    times.set(key, Math.min(times.get(key) ?? Infinity, rated));
  }
}
