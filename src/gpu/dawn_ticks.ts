/**
 * How often Dawn looks whether the GPU is done.
 *
 * @module
 */

const NATIVE = /^function \w*\(\) \{\s*\[native code\]\s*\}$/; // a function of Dawn's
const MOST = 5; // milliseconds between two looks
const SHARE = 0.05; // of the time waited, by which a look may be late

/** What looks are scheduled with. */
export interface Clocks {
  /** As Deno's. */
  setImmediate: (fn: () => void, ...args: unknown[]) => unknown;
  /** As Deno's. */
  setTimeout: (fn: () => void, milliseconds: number) => unknown;
  /** As Deno's. */
  readonly performance: { now(): number };
}

/**
 * Makes Dawn look less often the longer it waits. It looks by `setImmediate` with a new native function each time, which Deno
 * keeps until a collection and then removes one by one from one list: half a minute of waiting for a CPU driver's compiler
 * made a million of them, and the process hung.
 */
export function calmDawn(clocks: Clocks = globalThis as unknown as Clocks): void {
  const { setImmediate } = clocks;
  let started = 0, looking = false;
  const patient = (look: () => void) => {
    const now = clocks.performance.now();
    if (!looking) started = now; // a look schedules the next one itself, so this is a new wait
    const run = () => {
      looking = true;
      try {
        look();
      } finally {
        looking = false;
      }
    };
    const delay = Math.min(MOST, SHARE * (now - started));
    return delay < 1 ? setImmediate(run) : clocks.setTimeout(run, delay);
  };
  clocks.setImmediate = (fn, ...args) => {
    const dawns = args.length === 0 && NATIVE.test(Function.prototype.toString.call(fn));
    return dawns ? patient(fn) : setImmediate(fn, ...args);
  };
}
