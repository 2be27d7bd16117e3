/**
 * A model's time a token, for comparing commits: the prompt's and that of decode, in the form of an op's measurement.
 *
 *     deno run -A bench/compare_model.ts FOLDER [rounds]
 *
 * It takes only what the first release had, so that it runs in the folders of earlier commits too.
 */
import process from "node:process";
import { loadModel, type Model, openDevice, stream } from "../mod.ts";

/** Of a model, what is compared. */
export interface TokenTime {
  name: string;
  shape: string;
  /** Milliseconds a token: of CPU time on a CPU device. */
  rated: number;
}

const PROMPT = 128, TOKENS = 64, ROUNDS = 4;

/** The least times of some rounds of the model in `path`. */
export async function tokenTimes(path: string, rounds = ROUNDS): Promise<TokenTime[]> {
  await using device = await openDevice();
  using model = await loadModel(path, { device, dtype: "float16" });
  const clock = () => {
    const { user, system } = process.cpuUsage();
    return device.isCpu ? (user + system) / 1000 : performance.now();
  };
  const best = { prompt: Infinity, decode: Infinity };
  for (let round = 0; round <= rounds; round++) {
    const [prompt, decode] = await timed(model, clock);
    if (round === 0) continue; // compiles
    best.prompt = Math.min(best.prompt, prompt / PROMPT), best.decode = Math.min(best.decode, decode / TOKENS);
  }
  const name = path.split("/").at(-1)!;
  return [
    { name, shape: `prompt of ${PROMPT}, a token`, rated: best.prompt },
    { name, shape: "decode, a token", rated: best.decode },
  ];
}

async function timed(model: Model, clock: () => number): Promise<[prompt: number, decode: number]> {
  const inputIds = [Array.from({ length: PROMPT }, (_, i) => 3 + i * 7 % 1000)], start = clock();
  let first: number | undefined;
  const o = { doSample: false, eosTokenId: null, maxNewTokens: 1 + TOKENS } as const;
  for await (const _ of stream(model, { inputIds }, o)) first ??= clock();
  return [first! - start, clock() - first!];
}

if (import.meta.main) {
  const [path = new URL("../models/tensaur-tiny", import.meta.url).pathname, rounds] = Deno.args;
  for (const found of await tokenTimes(path, Number(rounds ?? ROUNDS))) console.log(JSON.stringify(found));
}
