/**
 * The peers beside Tensaur in one run: everyone has a turn at a case, then at the next, then all again, as often as the
 * time allows; the fastest of the turns counts. Each turn is a process with a limit of its own, and what it found is kept
 * at once, so that a run which broke off can be resumed. Peers that are not installed are named and left out.
 */
import { Interrupted, jsonLines, ProcessError } from "../process.ts";
import type { Origin } from "../report.ts";
import { benchModels, exists, PEERS } from "./cache.ts";
import { plan, type Turn } from "./plan.ts";
import { Kept } from "./kept.ts";
import { fastest, lineText, type PeerLine, type PeerReport } from "./table.ts";

/** How to run. */
export interface PeerOptions {
  /** Milliseconds for all of it. */
  budget: number;
  /** One round of short turns. */
  quick?: boolean;
  /** Most rounds. Default 3, or 1 where it must be quick. */
  rounds?: number;
  /** Limits to turns whose name holds one of these. */
  names?: readonly string[];
  /** Keeps what an earlier run at the same commit found, and tries again what failed in it. */
  resume?: boolean;
  /** Called before each turn. */
  say: (line: string) => void;
}

/** What a turn found. */
export interface Found {
  /** From 1. */
  round: number;
  turn: string;
  lines: PeerLine[];
  /** Why there is no more. */
  failed?: string;
  seconds: number;
}

const LEAST = 5000; // ms: no turn is done in less
const MOST_PATIENCE = 5;
const NO_TIME = "no time was left";
const PACKAGES = ["@huggingface/transformers", "@jax-js/jax", "node-llama-cpp", "onnxruntime-node", "onnxruntime-web"];

/** Runs everyone in turn. */
export async function runPeers(origin: Origin, options: PeerOptions): Promise<PeerReport> {
  const { names = [], quick = false, rounds = quick ? 1 : 3 } = options;
  await benchModels().catch((error: Error) => options.say(`  ${error.message}`)); // the ops need no model
  const all = plan({ model: `${PEERS}/models/bench-30m`, quick, rounds });
  const turns = all.filter(({ name }) => names.length === 0 || names.some((part) => name.includes(part)));
  if (turns.length === 0) throw new Error(`No turn is called so; there are ${all.map(({ name }) => name).join(", ")}`);
  const file = names.length ? undefined : `${PEERS}/unfinished.jsonl`;
  const kept = await Kept.open(file, `${origin.commit}${quick ? " quick" : ""}`, options.resume ?? false);
  const found = await takeTurns(turns, { ...options, rounds, kept });
  const open = turns.reduce((n, turn) => n + Math.min(rounds, turn.rounds), 0) -
    found.filter((one) => !one.failed).length;
  if (file && open) options.say(`peers: ${open} turns of ${rounds} rounds are open; --resume takes them`);
  return { origin, versions: await versions(), warm: true, ...peerReport(found) };
}

/** What the turns found, as a report has it. */
export function peerReport(found: readonly Found[]): Pick<PeerReport, "rounds" | "lines" | "missing"> {
  const missing = found.flatMap(({ turn, lines, failed }) => [
    ...failed ? [`${turn}: ${failed}`] : [],
    ...lines.flatMap(({ peer, backend, case: name, error }) => error ? [`${peer} ${backend}, ${name}: ${error}`] : []),
  ]);
  const rounds = Math.max(0, ...found.map(({ round }) => round));
  return { rounds, lines: fastest(found.flatMap(({ lines }) => lines)), missing: [...new Set(missing)] };
}

/** What {@linkcode takeTurns} needs to know. */
export interface TurnOptions extends Pick<PeerOptions, "budget" | "say"> {
  rounds: number;
  kept: Kept;
}

/**
 * Rounds of `turns`. One that failed has no second turn; another round begins only if there is time for all of it, and a
 * turn only if there is time for what it took before.
 */
export async function takeTurns(turns: readonly Turn[], options: TurnOptions): Promise<readonly Found[]> {
  const { budget, rounds, kept, say } = options, start = performance.now();
  const left = () => start + budget - performance.now();
  const open = (round: number) =>
    turns.filter(({ name, rounds }) =>
      round <= rounds && !kept.has(round, name) && (round === 1 || !kept.failed(name))
    );
  const needs = (turn: Turn) => 1000 * (kept.seconds(turn.name) ?? 0);
  const fits = (round: number) => open(round).reduce((sum, turn) => sum + needs(turn), 0) < left();
  for (let round = 1; round <= rounds && (round === 1 || fits(round)); round++) {
    for (const turn of open(round)) {
      const known = kept.seconds(turn.name), least = Math.max(needs(turn), round === 1 ? LEAST : 0);
      if (left() < Math.min(least, Math.max(LEAST, budget / 2))) { // a long one begins a resumed run
        if (round === 1) kept.note({ round, turn: turn.name, lines: [], failed: NO_TIME, seconds: 0 });
        continue;
      }
      const last = known === undefined ? "" : ` (${known.toFixed(0)} s last time)`;
      say(`peers, round ${round} of ${rounds}: ${turn.name}${last}`);
      if (round === 1 && (turn.ours || known === undefined)) await warmUp(turn, left() / 2);
      const found = await take(turn, left(), say);
      if (found.failed) say(`  ${turn.name}: ${found.failed}`);
      await kept.keep({ round, ...found });
    }
  }
  return kept.all;
}

/** How many times as long as on an idle machine something may take here and now. */
function patience(): number {
  return Math.min(MOST_PATIENCE, Math.max(1, Deno.loadavg()[0]! / navigator.hardwareConcurrency));
}

/** A start that does not count, in `left` milliseconds; where it fails, the one that counts says why. */
async function warmUp({ limit, warm }: Turn, left: number): Promise<void> {
  await warm?.({ limit: Math.min(limit * patience(), left) }).catch((error) => {
    if (error instanceof Interrupted) throw error;
  });
}

async function take({ name, limit: own, run }: Turn, left: number, say: (line: string) => void) {
  const start = performance.now(), seconds = () => (performance.now() - start) / 1000;
  const patient = own * patience(), limit = Math.min(patient, Math.max(0, left));
  const line = (text: string) => jsonLines<PeerLine>(text).forEach((line) => line.ms_min && say(`  ${lineText(line)}`));
  try {
    const lines = jsonLines<PeerLine>(await run({ limit, line }));
    return { turn: name, lines, seconds: seconds(), ...lines.length === 0 && { failed: "it printed no figure" } };
  } catch (error) {
    if (error instanceof Interrupted) throw error;
    const lines = error instanceof ProcessError ? jsonLines<PeerLine>(error.stdout) : [];
    const cut = limit < patient && error instanceof ProcessError && error.late;
    const failed = cut ? `${NO_TIME}: it was stopped after ${seconds().toFixed(0)} s` : (error as Error).message;
    return { turn: name, lines, seconds: seconds(), failed };
  }
}

async function versions(): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const name of PACKAGES) {
    const path = `${PEERS}/node_modules/${name}/package.json`;
    if (await exists(path)) found[name] = JSON.parse(await Deno.readTextFile(path)).version;
  }
  return found;
}
