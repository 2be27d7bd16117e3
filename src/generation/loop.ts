/**
 * The decode loop: it runs ahead of the reader and never waits for one token (architecture.md, decision 5).
 *
 * @module
 */
import { setImmediate } from "node:timers/promises";
import { NumericError, throwIfAborted } from "../errors.ts";
import { INVALID_TOKEN } from "../ops/decode_state.ts";
import type { Tensor } from "../tensor/mod.ts";
import { type Decoder, RING } from "./decoder.ts";
import type { ResolvedOptions } from "./options.ts";

/** What one step gives: a token of each row and, where asked for, what it was chosen from. */
export interface Step {
  /** [B]; rows that have ended give the pad token. */
  tokens: Uint32Array;
  /** [B · V] after the processors. */
  scores?: Float32Array;
  /** [B · V] before them. */
  logits?: Float32Array;
}

const CHUNK_MS = 8; // work between two reads

/** Steps of `decoder` until `o.newTokens`, or until the caller stops asking. */
export function decode(decoder: Decoder, o: ResolvedOptions): AsyncGenerator<Step> {
  return decoder.needsHost || o.outputScores || o.outputLogits ? stepByStep(decoder, o) : ahead(decoder, o);
}

/** Several steps a read, several reads in flight. */
async function* ahead(decoder: Decoder, o: ResolvedOptions): AsyncGenerator<Step> {
  const start = Math.max(...decoder.ids.map((row) => row.length));
  const until = start + o.newTokens;
  const inFlight: { tokens: Promise<Uint32Array>; first: number; steps: number }[] = [];
  let issued = 0, chunk = 1, last = performance.now();
  const read = (steps: number) => {
    const tokens = decoder.read();
    tokens.catch(() => {}); // reported where it is awaited; the loop may have ended by then
    inFlight.push({ tokens, first: issued, steps });
    issued += steps;
  };
  try {
    using logits = await decoder.prefill();
    chooseFrom(decoder, logits);
    read(1);
    while (inFlight.length || issued < o.newTokens) {
      while (inFlight.length < decoder.depth && issued < o.newTokens) {
        throwIfAborted(o.signal, "generating");
        const steps = Math.min(chunk, o.newTokens - issued);
        decoder.step(start + issued, until, steps);
        read(steps);
      }
      const { tokens, first, steps } = inFlight.shift()!;
      const ring = await tokens;
      await setImmediate(); // an early read resolves without letting timers and signals run
      throwIfAborted(o.signal, "generating");
      const now = performance.now();
      if (first > 0) chunk = Math.min(RING >> 2, Math.max(1, Math.round(CHUNK_MS * steps / (now - last))));
      last = now;
      for (let i = first; i < first + steps; i++) yield { tokens: slot(ring, i, decoder) };
    }
  } finally {
    await Promise.allSettled(inFlight.map(({ tokens }) => tokens));
  }
}

/** One step at a time, for those who look at the scores on the host. */
async function* stepByStep(decoder: Decoder, o: ResolvedOptions): AsyncGenerator<Step> {
  const start = Math.max(...decoder.ids.map((row) => row.length));
  for (let i = 0; i < o.newTokens; i++) {
    throwIfAborted(o.signal, "generating");
    if (i > 0) decoder.reserve(1);
    using raw = i === 0 ? await decoder.prefill() : decoder.logits(start + i);
    if (i > 0) decoder.advanced();
    const logits = o.outputLogits ? await raw.read() as Float32Array : undefined;
    using processed = decoder.needsHost ? await decoder.processOnHost(raw) : processedCopy(decoder, raw);
    const scores = processed ?? raw;
    decoder.choose(scores);
    const given = o.outputScores ? await scores.read() as Float32Array : undefined;
    yield { tokens: slot(await decoder.read(), i, decoder), scores: given, logits };
  }
}

function chooseFrom(decoder: Decoder, logits: Tensor): void {
  using processed = processedCopy(decoder, logits);
  decoder.choose(processed ?? logits);
}

/** The scores after the processors on the GPU, or undefined if there are none. */
function processedCopy(decoder: Decoder, logits: Tensor): Tensor | undefined {
  const scores = decoder.process(logits);
  return scores === logits ? undefined : scores;
}

function slot(ring: Uint32Array, step: number, { ids }: Decoder): Uint32Array {
  const B = ids.length, at = (step % RING) * B;
  const tokens = ring.slice(at, at + B);
  const row = tokens.indexOf(INVALID_TOKEN);
  if (row === -1) return tokens;
  throw new NumericError(
    `Cannot choose token ${step + 1} of row ${row} as its logits must be finite: they are NaN or infinite`,
    { hint: 'Load the model with dtype: "float32", or check the weights.' },
  );
}
