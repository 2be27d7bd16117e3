/** A coverage-guided loop: inputs that reach code which none reached before become seeds of further ones. */
import { Session } from "node:inspector";
import { random } from "../helpers.ts";
import { tokens } from "./fixture.ts";

const EVERY = 5; // inputs between two readings of the coverage, which take longer than the inputs

/** What {@linkcode coverageLoop} did. */
export interface LoopReport {
  /** Inputs that were run. */
  runs: number;
  /** Inputs that were kept, the first ones included. */
  corpus: Uint8Array[];
  /** Ranges of code that were seen to run, or to be left out. */
  ranges: number;
}

/** Runs `target` on mutations of `first` until `done`; code in scripts whose URL matches `scripts` counts. */
export async function coverageLoop(
  target: (input: Uint8Array) => void,
  { first, done, seed, scripts }: {
    first: Uint8Array[];
    done: (runs: number) => boolean;
    seed: number;
    scripts: RegExp;
  },
): Promise<LoopReport> {
  const next = random(seed), corpus = [...first], seen = new Set<string>();
  let runs = 0;
  const profiler = new Profiler(scripts);
  await profiler.start();
  try {
    while (!done(runs)) {
      const inputs = runs === 0 ? first : Array.from({ length: EVERY }, () => mutate(corpus, next));
      for (const input of inputs) target(input);
      runs += inputs.length;
      const fresh = (await profiler.take()).filter((range) => !seen.has(range));
      for (const input of fresh.length > 0 ? inputs : []) { // which of them was it?
        target(input);
        const reached = (await profiler.take()).filter((range) => !seen.has(range));
        if (reached.length > 0 && runs > first.length) corpus.push(input);
        for (const range of reached) seen.add(range);
      }
    }
  } finally {
    await profiler.stop();
  }
  return { runs, corpus, ranges: seen.size };
}

/** One to three random edits of a random input. */
function mutate(corpus: Uint8Array[], next: () => number): Uint8Array {
  const below = (n: number) => Math.floor(next() * n);
  let bytes = corpus[below(corpus.length)]!;
  for (let edits = 1 + below(3); edits > 0; edits--) {
    const at = below(bytes.length + 1), size = 1 + below(16), other = corpus[below(corpus.length)]!;
    const from = below(other.length), token = new TextEncoder().encode(tokens[below(tokens.length)]);
    const [middle, after] = [
      () => [[bytes[at]! ^ (1 << below(8))], at + 1],
      () => [[], at + size],
      () => [token, at],
      () => [token, at + token.length],
      () => [[0x30 + below(10)], at + 1],
      () => [bytes.subarray(at, at + size), at],
      () => [other.subarray(from, from + size), at],
    ][below(7)]!() as [Iterable<number>, number];
    bytes = Uint8Array.of(...bytes.subarray(0, at), ...middle, ...bytes.subarray(after));
  }
  return bytes.slice(0, 4096);
}

/** V8's counts of how often each range of code ran. */
class Profiler {
  readonly #session = new Session();
  readonly #scripts: RegExp;

  constructor(scripts: RegExp) {
    this.#scripts = scripts;
  }

  async start(): Promise<void> {
    this.#session.connect();
    await this.#post("Profiler.enable");
    await this.#post("Profiler.startPreciseCoverage", { callCount: true, detailed: true });
  }

  /** What ran since the last call: V8 tells of a branch by the range that ran, or only by the one beside it that did not. */
  async take(): Promise<string[]> {
    const { result } = await this.#post("Profiler.takePreciseCoverage") as Coverage;
    const key = (id: string, r: Range) => `${id}:${r.startOffset}-${r.endOffset} ${r.count > 0}`;
    return result.filter((script) => this.#scripts.test(script.url)).flatMap((script) =>
      script.functions.filter(({ ranges }) => ranges[0]!.count > 0)
        .flatMap(({ ranges }) => ranges.map((range) => key(script.scriptId, range)))
    );
  }

  async stop(): Promise<void> {
    await this.#post("Profiler.stopPreciseCoverage");
    this.#session.disconnect();
  }

  #post(method: string, parameters: object = {}): Promise<unknown> {
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#session.post(method, parameters, (error, result) => error ? reject(error) : resolve(result));
    return promise;
  }
}

interface Range {
  startOffset: number;
  endOffset: number;
  count: number;
}

interface Coverage {
  result: { url: string; scriptId: string; functions: { ranges: Range[] }[] }[];
}
