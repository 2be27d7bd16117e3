import { assert, assertEquals } from "@std/assert";
import { calmDawn, type Clocks } from "../../src/gpu/dawn_ticks.ts";

/** A clock whose immediates take 0.04 ms; what waits on it is one function at a time. */
function clockOf() {
  let now = 0, next: (() => void) | undefined;
  const clocks: Clocks = {
    setImmediate: (fn, ...args) => {
      now += 0.04;
      next = () => (fn as (...args: unknown[]) => void)(...args);
    },
    setTimeout: (fn, milliseconds) => {
      now += milliseconds;
      next = fn;
    },
    performance: { now: () => now },
  };
  /** Runs what is scheduled, until nothing is. */
  const drain = () => {
    for (let fn = next; fn; fn = next) {
      next = undefined;
      fn();
    }
  };
  return { clocks, drain, now: () => now };
}

Deno.test("calmDawn() makes looks rare in a long wait, and begins each wait with frequent ones", () => {
  const { clocks, drain, now } = clockOf();
  calmDawn(clocks);
  for (const [wait, most] of [[30_000, 7_000], [10, 300], [30_000, 7_000], [10, 300]] as const) {
    const end = now() + wait;
    let looks = 0;
    const look = () => {
      looks++;
      if (now() < end) clocks.setImmediate(native());
    };
    const native = () => look.bind(undefined); // prints as native code, as Dawn's functions do
    clocks.setImmediate(native());
    drain();
    assert(looks < most, `${looks} looks in ${wait} ms`);
    assert(now() < 1.06 * end, `a wait until ${end} ended at ${now()}`);
  }
});

Deno.test("calmDawn() leaves the immediates of JavaScript as they are", () => {
  const { clocks, drain } = clockOf();
  calmDawn(clocks);
  const got: unknown[] = [];
  clocks.setImmediate(((...args: unknown[]) => got.push(...args)) as () => void, 1, "two");
  drain();
  assertEquals(got, [1, "two"]);
});
