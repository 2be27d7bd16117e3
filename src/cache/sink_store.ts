/**
 * A ring behind attention sinks: the first keys stay, and are turned so that they stand just before the window.
 *
 * Keys are stored as they come, rotated at their true positions: rotary scores depend on distances alone, so the window
 * needs no rotation when it moves; only the few sinks do.
 *
 * @module
 */
import { LimitError, NotSupportedError, ValueError } from "../errors.ts";
import { kernel } from "../gpu/mod.ts";
import { cast } from "../ops/cast.ts";
import { dtypeFlags } from "../ops/pack_weight.ts";
import rotateWgsl from "../shaders/sink_rotate.wgsl" with { type: "text" };
import backWgsl from "../shaders/rotate_back.wgsl" with { type: "text" };
import { empty, keep, type Tensor, tensor, tidy } from "../tensor/mod.ts";
import type { AttentionOptions, Rotary } from "./cache.ts";
import { type LayerState, restoreTensor } from "./cache_state.ts";
import { bytesOf, type CachePass, type LayerStore, type PackedKv, type StoreSpec } from "./layer_store.ts";
import type { RingShape } from "./rings.ts";
import { copyRows } from "./packed_rows.ts";
import { RingStore } from "./ring_store.ts";

const rotate = kernel("sink_rotate", rotateWgsl);
const rotateBack = kernel("rotate_back", backWgsl);

/** A layer of a {@linkcode SinkCache}. */
export class SinkStore extends RingStore {
  readonly #raw: Tensor; // [B, Hkv, sinks, Dh]
  readonly #words: Tensor; // the ring's shape
  #rotary: Rotary | undefined;
  #isRestored = false; // and has not attended yet: it is not known how its keys were rotated

  /** An empty store; `drift`: sinks and positions as Transformers 4.46 has them. */
  constructor(spec: StoreSpec, ring: RingShape, readonly drift: boolean) {
    super(spec, ring);
    const { device, size, kvHeads, headDim, dtype } = spec;
    using made = new DisposableStack();
    made.defer(() => super[Symbol.dispose]());
    this.#raw = made.use(keep(device, empty(device, [size, kvHeads, ring.staying, headDim], dtype, { exact: true })));
    const words = [ring.window, ring.staying, ring.length, 1];
    this.#words = made.use(keep(device, tensor(device, words, [4], "uint32")));
    made.move(); // nothing failed: they are the store's
  }

  /** Bytes on the GPU. */
  override get byteLength(): number {
    return super.byteLength + bytesOf(this.#raw, this.#words);
  }

  /** Checks the length of the batch, then attends. */
  override attend(q: Tensor, k: Tensor, v: Tensor, pass: CachePass, options: AttentionOptions): Tensor {
    const { window, staying } = this.ring;
    const over = pass.batch.lengths.findIndex((n, b) => n > window - (pass.lengths[b] ? staying : 0));
    if (over === -1) return super.attend(q, k, v, pass, options);
    throw new LimitError(
      `Cannot run the batch as a cache with sinks takes at most ${window - staying} tokens of a sequence at once: ` +
        `row ${over} has ${pass.batch.lengths[over]}`,
      { hint: "Pass fewer tokens at a time: prefillChunkSize." },
    );
  }

  /** Every batch that is let in has room. */
  protected override fits(): boolean {
    return true;
  }

  /** Sinks see no window: the ring shows what is to be seen. */
  protected override windowOf(): undefined {
    return undefined;
  }

  /** Turns the sinks to where the window begins. */
  protected override stored(pass: CachePass, { rotary }: AttentionOptions): void {
    this.#rotary = rotary;
    this.#isRestored = false;
    if (this.ring.staying === 0 || !rotary) return;
    const { spec: { headDim, dtype, device } } = this;
    rotate(device, {
      flags: { ...dtypeFlags(dtype), INTERLEAVED: rotary.interleaved ?? false, DRIFT: this.drift },
      consts: { DH: headDim, HALF: rotary.table.shape[2]! },
      bindings: {
        keys: this.keys,
        raw: this.#raw,
        past: pass.past,
        cuSeqlens: pass.batch.cuSeqlens,
        counts: pass.ring(this.ring),
        ring: this.#words,
        table: rotary.table,
      },
      grid: [Math.ceil(this.#raw.byteLength / 4 / 64)],
    });
  }

  /** What is there, keys rotated at their slots: 0, 1, … */
  override contents(lengths: readonly number[]): PackedKv {
    if (this.#isRestored) {
      throw new NotSupportedError("Cannot read a SinkCache from a file as it must have been used since: run a token");
    }
    const { k, v } = super.contents(lengths), rotary = this.#rotary;
    if (!rotary) return { k, v };
    const { headDim, device, dtype } = this.spec, { window } = this.ring;
    const drift = this.drift ? 1 : 0;
    const turns = lengths.flatMap((n) => {
      const left = Math.max(0, n - window) + (n >= window ? drift : 0);
      return Array<number>(Math.min(n, window)).fill(left);
    });
    const turned = tidy(device, () => {
      const x = cast(k, "float32"), y = empty(device, x.shape);
      rotateBack(device, {
        flags: { INTERLEAVED: rotary.interleaved ?? false },
        overrides: { DH: headDim, HALF: rotary.table.shape[2]! },
        bindings: { x, turns: tensor(device, turns, [turns.length], "uint32"), table: rotary.table, y },
        grid: [Math.ceil(x.size / 64)],
      });
      return cast(y, dtype);
    });
    k.dispose();
    return { k: turned, v };
  }

  /** Keys of elsewhere cannot be told from where they come. */
  override append(): void {
    throw new ValueError("Cannot fill a SinkCache from tensors as its keys must come from a forward pass");
  }

  /** All that it holds, as it lies. */
  override state(): LayerState {
    const state = super.state();
    return { ...state, tensors: { ...state.tensors, sinks: this.#raw } };
  }

  /** Takes what `state` gave. */
  override restore(state: LayerState): void {
    super.restore(state);
    restoreTensor("sinks", state.tensors.sinks, this.#raw);
    this.#isRestored = true;
  }

  /** A copy of some sequences. */
  override copy(rows: readonly number[]): LayerStore {
    const to = super.copy(rows) as SinkStore;
    to.#rotary = this.#rotary;
    to.#isRestored = this.#isRestored;
    copyRows(this.#raw, to.#raw, rows, this.spec.size);
    return to;
  }

  /** An empty store of the same kind. */
  protected override another(spec: StoreSpec): RingStore {
    return new SinkStore(spec, this.ring, this.drift);
  }

  /** Returns the memory. */
  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.#raw.dispose();
    this.#words.dispose();
  }
}
