/**
 * The forms that measured kernel times are shown in.
 *
 * @module
 */

/** What one kernel variant cost. */
export interface KernelTime {
  /** The kernel with its flags and constants. */
  name: string;
  /** How often it ran. */
  calls: number;
  /** Milliseconds in all. */
  totalMs: number;
  /** Microseconds a call. */
  meanUs: number;
  /** Its part of the time of all kernels, 0 to 1. */
  share: number;
}

/** One run of a kernel. */
export interface KernelEvent {
  /** The kernel with its flags and constants. */
  name: string;
  /** Workgroups. */
  grid: readonly [number, number, number];
  /** Index of the submission that it was part of. */
  submit: number;
  /** Microseconds on the GPU's clock, from the first kernel of the profile. */
  start: number;
  /** Microseconds. */
  duration: number;
}

/** One submission by the host. */
export interface SubmitEvent {
  /** When its encoding began, in ms of `performance.now()`. */
  start: number;
  /** When `submit` had returned. */
  end: number;
  /** How many kernels it held. */
  dispatches: number;
}

/** Sums up `events` by kernel, the costliest first. */
export function kernelTable(events: readonly KernelEvent[]): KernelTime[] {
  const all = events.reduce((sum, { duration }) => sum + duration, 0);
  return [...Map.groupBy(events, ({ name }) => name)].map(([name, runs]) => {
    const total = runs.reduce((sum, { duration }) => sum + duration, 0);
    return {
      name,
      calls: runs.length,
      totalMs: total / 1000,
      meanUs: total / runs.length,
      share: all > 0 ? total / all : 0,
    };
  }).sort((a, b) => b.totalMs - a.totalMs);
}

/** The table as text, one line a kernel. */
export function tableText(kernels: readonly KernelTime[]): string {
  const rows = kernels.map(({ name, calls, totalMs, meanUs, share }) => [
    name,
    `${calls}`,
    totalMs.toFixed(3),
    meanUs.toFixed(1),
    `${(100 * share).toFixed(1)} %`,
  ]);
  const table = [["kernel", "calls", "total ms", "mean µs", "share"], ...rows];
  const widths = table[0]!.map((_, column) => Math.max(...table.map((row) => row[column]!.length)));
  return table.map((row) =>
    row.map((cell, column) => column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!)).join("  ")
  ).join("\n");
}

/** The trace event format of Chrome, which Perfetto reads too: times in microseconds. */
export function chromeTrace(events: readonly KernelEvent[], submits: readonly SubmitEvent[]): string {
  const zero = submits[0]?.start ?? 0;
  const host = submits.map(({ start, end, dispatches }) => ({
    name: "submit",
    ts: 1000 * (start - zero),
    dur: 1000 * (end - start),
    args: { dispatches },
  }));
  const offset = events.reduce((most, { submit, start }) => {
    return Math.max(most, host[submit]!.ts + host[submit]!.dur - start);
  }, 0);
  const gpu = events.map(({ name, start, duration, grid, submit }) => ({
    name,
    ts: start + offset, // the clocks differ: the least shift with which no kernel runs before its submission
    dur: duration,
    args: { grid, submit },
  }));
  const track = (tid: number, name: string) => ({ name: "thread_name", ph: "M", pid: 1, tid, args: { name } });
  return JSON.stringify({
    displayTimeUnit: "ms",
    traceEvents: [
      { name: "process_name", ph: "M", pid: 1, args: { name: "Tensaur" } },
      track(1, "GPU kernels"),
      track(2, "host submits"),
      ...gpu.map((event) => ({ ph: "X", pid: 1, tid: 1, cat: "kernel", ...event })),
      ...host.map((event) => ({ ph: "X", pid: 1, tid: 2, cat: "submit", ...event })),
    ],
  });
}
