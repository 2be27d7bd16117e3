/**
 * Steps of a few tokens with what is done with their logits, replayed from recordings in one submission.
 *
 * @module
 */
import type { Recording } from "../../gpu/stream.ts";
import type { Model } from "../../models/mod.ts";
import { type Tensor, tidy } from "../../tensor/mod.ts";
import type { DecodeStep } from "../decode_step.ts";

/** A step of a model, and what follows from its logits. */
export class ReplayedStep implements Disposable {
  readonly #model: Model;
  readonly #step: DecodeStep;
  readonly #use: (logits: Tensor) => void;
  #used: { recording: Recording; logits: Tensor } | undefined;

  /** Records nothing yet. The step is this one's from now on; `use` records kernels only. */
  constructor(model: Model, step: DecodeStep, use: (logits: Tensor) => void) {
    this.#model = model;
    this.#step = step;
    this.#use = use;
  }

  /** What to replay; undefined where no recording serves all lengths from `from` to `until`. */
  recordings(from: number, until: number): readonly Recording[] | undefined {
    const recorded = this.#step.recorded(from, until);
    if (!recorded) return undefined;
    const { recording, logits } = recorded;
    if (this.#used?.logits !== logits) {
      this.#used?.recording.dispose();
      this.#used = undefined;
      this.#used = { recording: this.#model.device.stream.capture(() => this.#then(logits)), logits };
    }
    return [recording, this.#used.recording];
  }

  /** Records the same to run once; the longest row has `maxPosition` positions then. */
  run(maxPosition: number): void {
    tidy(this.#model.device, () => this.#use(this.#step.run(maxPosition)));
  }

  /** Returns the memory. */
  [Symbol.dispose](): void {
    this.#used?.recording.dispose();
    this.#used = undefined;
    this.#step[Symbol.dispose]();
  }

  #then(logits: Tensor): void {
    tidy(this.#model.device, () => this.#use(logits));
  }
}

/** A step, and how many positions the sequence has with its tokens. */
export interface StepAt {
  /** The step. */
  step: ReplayedStep;
  /** Positions in use once it has run. */
  length: number;
}

/** Submits steps in their order, at once where they are all recorded; `until`: positions at the end of the run. */
export function submitSteps({ device }: Model, steps: readonly StepAt[], until: number): void {
  let ready: Recording[] = [];
  const send = () => {
    if (ready.length) device.stream.replay(ready);
    ready = [];
  };
  for (const { step, length } of steps) {
    const recordings = step.recordings(length, until);
    if (recordings) {
      ready.push(...recordings);
      continue;
    }
    send();
    step.run(length);
  }
  send();
}
