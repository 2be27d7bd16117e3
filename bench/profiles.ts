/**
 * One decode step before and after: the kernels of an earlier commit and of this one, in turn in one run.
 */
import { textTable } from "../src/cli/table.ts";
import { denoRun, jsonLines, output } from "./process.ts";
import type { StepProfile } from "./step_profile.ts";
import { BENCH } from "./suite.ts";
import { commitOf, withCommit } from "./worktree.ts";

/** The last commit before the fused block, replayed steps and the present kernels. */
export const BEFORE = "226e6c4";

/** A step in both. */
export interface StepPair {
  model: string;
  /** The earlier commit. */
  commit: string;
  /** This one. */
  now: string;
  before: StepProfile["kernels"];
  after: StepProfile["kernels"];
}

/** A step in both, with the traces by the names of their files. */
export interface TracedPair extends StepPair {
  traces: Record<string, string>;
}

const ROUNDS = 3, SCRIPT = "step_profile.ts";

/** How to profile. */
export interface PairOptions {
  /** The earlier commit. Default {@linkcode BEFORE}. */
  commit?: string;
  /** Turns of each. Default 3. */
  rounds?: number;
}

/** Profiles a step of the model in `path` in both commits, the fastest of some turns. */
export async function profilePair(path: string, options: PairOptions = {}): Promise<TracedPair> {
  const { commit = BEFORE, rounds = ROUNDS } = options;
  if (!await commitOf(commit)) throw new Error(`Git has no commit ${commit} here to profile before this one`);
  const best: Record<string, StepProfile> = {};
  await withCommit(commit, [SCRIPT], async (tree) => {
    for (let round = 0; round < rounds; round++) {
      for (
        const [when, folder] of [["before", `${tree}/bench`], ["after", decodeURIComponent(BENCH.pathname)]] as const
      ) {
        const [found] = jsonLines<StepProfile>(await denoRun(`${folder}/${SCRIPT}`, [path]));
        if (found && (!best[when] || total(found.kernels) < total(best[when].kernels))) best[when] = found;
      }
    }
  });
  const { before, after } = best;
  if (!before || !after) throw new Error("A step was not profiled");
  const traces = Object.entries(best).map(([when, { model, trace }]) => [traceFile(model, when), trace]);
  const { model, kernels } = after;
  const now = (await output("git", ["describe", "--always", "--dirty"], { cwd: BENCH })).trim();
  return { model, commit, now, before: before.kernels, after: kernels, traces: Object.fromEntries(traces) };
}

/** The name of the trace of `model`. */
export function traceFile(model: string, when: string): string {
  return `decode_step_${model}_${when}.json`;
}

/** Both steps as text, kernel by kernel. */
export function pairText({ before, after }: StepPair): string {
  const names = [...new Set([...after, ...before].map(({ name }) => name))];
  const cells = (kernels: StepPair["before"], name: string) => {
    const found = kernels.find((kernel) => kernel.name === name);
    return found ? [`${found.calls}`, found.microseconds.toFixed(0)] : ["", ""];
  };
  const sum = (kernels: StepPair["before"]) => [
    `${kernels.reduce((calls, kernel) => calls + kernel.calls, 0)}`,
    total(kernels).toFixed(0),
  ];
  return textTable([
    ["kernel", "calls before", "µs", "calls after", "µs"],
    ...names.map((name) => [name, ...cells(before, name), ...cells(after, name)]),
    ["all", ...sum(before), ...sum(after)],
  ]);
}

function total(kernels: StepPair["before"]): number {
  return kernels.reduce((sum, { microseconds }) => sum + microseconds, 0);
}
