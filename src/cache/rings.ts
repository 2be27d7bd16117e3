/**
 * Rings: what a cache that keeps only the last tokens shows to a batch. Keys go round in slots that never move.
 *
 * @module
 */
import { kernel } from "../gpu/mod.ts";
import wgsl from "../shaders/ring_plan.wgsl" with { type: "text" };
import { empty, keep, type Tensor, tensor } from "../tensor/mod.ts";
import { bytesOf, type CachePass } from "./layer_store.ts";

const plan = kernel("ring_plan", wgsl);

/** Tokens of a page. */
export const PAGE = 64;

/** Tokens that stay readable behind the window, so that so many can be cropped, or come in one batch. */
const SLACK = 64;

/** The slots of each sequence: `staying` at the front, then `length` that go round. */
export interface RingShape {
  /** Tokens that a query sees, its own included. */
  readonly window: number;
  /** Tokens at the front that every query sees: attention sinks. */
  readonly staying: number;
  /** Slots that go round. */
  readonly length: number;
  /** Pages of {@linkcode PAGE} slots. */
  readonly pages: number;
  /** The tokens of a batch are together within one window; else each token has a window of its own. */
  readonly shared: boolean;
}

/** The ring for a window; with `staying`, so many of its tokens are the first of the sequence. */
export function ringShape(window: number, staying?: number): RingShape {
  const pages = Math.ceil((window + SLACK) / PAGE), front = staying ?? 0;
  return { window, staying: front, length: pages * PAGE - front, pages, shared: staying !== undefined };
}

/** Most new tokens that find room beside what they see. */
export function roomOf({ window, staying, length }: RingShape): number {
  return staying + length - window + 1;
}

/** Where token `position` of a sequence lies. */
export function slotOf({ staying, length }: RingShape, position: number): number {
  return position < staying ? position : staying + (position - staying) % length;
}

interface Planned {
  counts: Tensor;
  shape: Tensor;
  pass: CachePass | undefined;
}

/** The plans of a cache's rings: one a shape, made anew in each pass. */
export class Rings implements Disposable {
  readonly #plans = new Map<string, Planned>();

  /** [(2 + P) · B] uint32: keys shown, how far turned, pages; of the batch of `pass`. */
  of(pass: CachePass, shape: RingShape): Tensor {
    const key = `${shape.window} ${shape.staying} ${shape.shared}`;
    const planned = this.#plans.get(key) ?? this.#make(pass, shape);
    this.#plans.set(key, planned);
    if (planned.pass === pass) return planned.counts;
    planned.pass = pass;
    plan(pass.past.device, {
      bindings: { past: pass.past, cuSeqlens: pass.batch.cuSeqlens, ring: planned.shape, counts: planned.counts },
      grid: [Math.ceil(pass.batch.size / 64)],
    });
    return planned.counts;
  }

  /** Bytes on the GPU. */
  get byteLength(): number {
    return bytesOf(...[...this.#plans.values()].flatMap(({ counts, shape }) => [counts, shape]));
  }

  /** Returns the memory. */
  [Symbol.dispose](): void {
    for (const { counts, shape } of this.#plans.values()) (counts.dispose(), shape.dispose());
    this.#plans.clear();
  }

  #make(
    { batch: { size }, past: { device } }: CachePass,
    { window, staying, length, pages, shared }: RingShape,
  ): Planned {
    using made = new DisposableStack();
    const counts = made.use(keep(device, tensor(device, ringCounts(size, pages), [(2 + pages) * size], "uint32")));
    const words = [window, staying, length, shared ? 1 : 0];
    const shape = made.use(keep(device, tensor(device, words, [4], "uint32")));
    made.move(); // nothing failed: they are the plan's
    return { counts, shape, pass: undefined };
  }
}

/** Counts of `size` sequences whose rings show nothing and are turned by `turned[b]`; each has `pages` pages of its own. */
export function ringCounts(size: number, pages: number, turned: readonly number[] = []): number[] {
  const each = Array.from({ length: size }, (_, b) => b);
  return [
    ...each.map(() => 0),
    ...each.map((b) => turned[b] ?? 0),
    ...Array.from({ length: pages * size }, (_, i) => i),
  ];
}

/** Counts on the device, for one call. */
export function temporaryCounts(past: Tensor, size: number, pages: number, turned: readonly number[]): Tensor {
  return tensor(past.device, ringCounts(size, pages, turned), [(2 + pages) * size], "uint32");
}

/** Tokens of `parts` one after the other in each sequence: [T, …] packed each, `lengths[part][sequence]` tokens. */
export function interleave(parts: readonly Tensor[], lengths: readonly (readonly number[])[]): Tensor {
  const [first] = parts as [Tensor];
  const row = first.byteLength / first.shape[0]!, { device } = first;
  const total = lengths.flat().reduce((sum, n) => sum + n, 0);
  const y = empty(device, [total, ...first.shape.slice(1)], first.dtype);
  const from = parts.map(() => 0);
  let to = 0;
  for (const b of lengths[0]!.keys()) {
    for (const [i, part] of parts.entries()) {
      const bytes = lengths[i]![b]! * row;
      device.stream.copy(part.buffer.gpu, part.byteOffset + from[i]!, y.buffer.gpu, y.byteOffset + to, bytes);
      from[i]! += bytes;
      to += bytes;
    }
  }
  return y;
}
