/**
 * The device buffers that layers in host memory are brought to.
 *
 * @module
 */
import { empty, keep, type Tensor } from "../tensor/mod.ts";
import { bytesOf, type StoreSpec } from "./layer_store.ts";
import type { OffloadedStore } from "./offloaded_store.ts";

/** A device buffer for keys and one for values: [B, capacity, Hkv, Dh], whatever their shape says. */
export interface OffloadSlot extends Disposable {
  /** What it was made for. */
  readonly spec: StoreSpec;
  /** Keys. */
  readonly k: Tensor;
  /** Values. */
  readonly v: Tensor;
}

/** Two device buffers, and which layer's keys are where. */
export class OffloadSlots implements Disposable {
  readonly #slots: (OffloadSlot | undefined)[] = [undefined, undefined];
  readonly #holds: (OffloadedStore | undefined)[] = [undefined, undefined];
  #last = 0;

  /** Bytes on the GPU. */
  get byteLength(): number {
    return bytesOf(...this.#slots.flatMap((slot) => [slot?.k, slot?.v]));
  }

  /** The buffers that have, or now get, the keys of `store`. */
  fetch(store: OffloadedStore): OffloadSlot {
    const at = this.#holds.indexOf(store), next = 1 - this.#last;
    if (at !== -1) {
      this.#last = at;
      return this.#slots[at]!;
    }
    this.#last = next;
    this.#holds[next] = undefined;
    const slot = this.#slots[next] = this.#fitting(next, store.spec);
    store.upload(slot);
    this.#holds[next] = store;
    return slot;
  }

  /** Starts to bring the keys of `store`, the next layer's. */
  prefetch(store: OffloadedStore): void {
    const busy = this.#last;
    if (this.#holds[busy] === store) return;
    this.fetch(store);
    this.#last = busy;
  }

  /** Returns the memory. */
  [Symbol.dispose](): void {
    for (const slot of this.#slots) slot?.[Symbol.dispose]();
    this.#slots.fill(undefined);
    this.#holds.fill(undefined);
  }

  #fitting(index: number, spec: StoreSpec): OffloadSlot {
    const slot = this.#slots[index];
    const fits = slot &&
      (["size", "capacity", "kvHeads", "headDim"] as const).every((key) => slot.spec[key] === spec[key]);
    if (fits) return slot;
    slot?.[Symbol.dispose]();
    this.#slots[index] = undefined;
    return newSlot(spec);
  }
}

/** A slot for layers of these sizes; what is in it is undefined. */
export function newSlot(spec: StoreSpec): OffloadSlot {
  const { device, size, capacity, kvHeads, headDim, dtype } = spec;
  using made = new DisposableStack();
  const make = () => {
    const shape = [size, kvHeads, capacity, headDim]; // as kernels want the sizes; the layout says how they lie
    return made.use(keep(device, empty(device, shape, dtype, { exact: true, label: "the cache" })));
  };
  const k = make(), v = make(), owned = made.move(); // nothing failed: they are the slot's
  return { spec, k, v, [Symbol.dispose]: () => owned.dispose() };
}
