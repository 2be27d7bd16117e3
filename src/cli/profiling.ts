/**
 * `--profile` and `--trace`.
 *
 * @module
 */
import { type Device, type Profiler, startProfile } from "../gpu/mod.ts";
import type { Ui } from "./ui.ts";

/** What to measure. */
export interface ProfileFlags {
  /** Print a table of kernel times. */
  profile?: boolean;
  /** Write a trace for Chrome and Perfetto to this file. */
  trace?: string;
}

/** Makes sure that the trace can be written, before anything long runs. */
export async function prepareTrace({ trace }: ProfileFlags): Promise<void> {
  if (trace !== undefined) await Deno.writeTextFile(trace, "");
}

/** Runs `work`, measured if the flags ask for it. */
export async function profiled<T>(device: Device, flags: ProfileFlags, ui: Ui, work: () => Promise<T>): Promise<T> {
  if (!flags.profile && flags.trace === undefined) return await work();
  const profiler: Profiler = startProfile(device);
  const result = await work();
  const profile = await profiler.stop();
  if (flags.profile) {
    ui.note(`\n${profile}`);
    ui.note(`kernels took ${profile.gpuMs.toFixed(1)} ms on the GPU`);
  }
  if (flags.trace !== undefined) {
    await Deno.writeTextFile(flags.trace, profile.chromeTrace());
    ui.note(`wrote ${flags.trace}: open it in https://ui.perfetto.dev or chrome://tracing`);
  }
  return result;
}
