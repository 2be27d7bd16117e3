/** A GPUDevice that does nothing but answer as a test scripts it: for the parts that no real device can be made to show. */
export class StubGpu extends EventTarget {
  /** What the next `popErrorScope` calls give; null for nothing wrong. */
  pops: Promise<GPUError | null>[] = [];
  /** Error scopes that are open. */
  depth = 0;
  /** Buffers created, with whether each was destroyed. */
  buffers: { size: number; destroyed: boolean }[] = [];
  readonly limits: { maxBufferSize: number };
  readonly #lost = Promise.withResolvers<GPUDeviceLostInfo>();

  constructor(maxBufferSize = 2 ** 30) {
    super();
    this.limits = { maxBufferSize };
  }

  get lost(): Promise<GPUDeviceLostInfo> {
    return this.#lost.promise;
  }

  pushErrorScope(): void {
    this.depth++;
  }

  popErrorScope(): Promise<GPUError | null> {
    this.depth--;
    return this.pops.shift() ?? Promise.resolve(null);
  }

  createBuffer({ size }: { size: number }): unknown {
    const buffer = { size, destroyed: false, destroy: () => buffer.destroyed = true };
    this.buffers.push(buffer);
    return buffer;
  }

  /** Loses the device. */
  lose(message: string): void {
    this.#lost.resolve({ reason: "unknown", message } as unknown as GPUDeviceLostInfo);
  }

  /** Dispatches an error that no scope caught. */
  uncaptured(error: GPUError): Event {
    const event = Object.assign(new Event("uncapturederror", { cancelable: true }), { error });
    this.dispatchEvent(event);
    return event;
  }

  /** Itself, as what it stands for. */
  get gpu(): GPUDevice {
    return this as unknown as GPUDevice;
  }
}
