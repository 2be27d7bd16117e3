/**
 * One line that shows how far long work has come: redrawn on a terminal, a plain line now and then elsewhere.
 *
 * @module
 */
import { formatBytes } from "../gpu/mod.ts";
import type { Progress } from "../progress.ts";

/** Where a {@linkcode ProgressBar} draws, and by which clock. */
export interface ProgressBarOptions {
  /** Takes text as it is. */
  write: (text: string) => void;
  /** Whether lines can be redrawn. */
  terminal: boolean;
  /** Width of the terminal. */
  columns: () => number;
  /** Milliseconds from any zero. */
  now?: () => number;
}

const VERBS = {
  download: "downloading",
  load: "loading",
  compile: "compiling kernels",
  score: "scoring",
  save: "saving",
} as const;
// Work that is done sooner shows nothing; later it is redrawn so often.
const TERMINAL = { delay: 300, every: 100 }, PLAIN = { delay: 3000, every: 5000 };
const CELLS = 24;

/** Shows {@linkcode Progress} reports. */
export class ProgressBar {
  readonly #o: Required<ProgressBarOptions>;
  #phase = "";
  #since = 0;
  #drawnAt = -Infinity;
  #shown = false;

  /** A bar that shows nothing until work has taken a moment. */
  constructor(options: ProgressBarOptions) {
    this.#o = { now: () => performance.now(), ...options };
  }

  /** Takes a report; draws at most ten times a second. */
  update(progress: Progress): void {
    const now = this.#o.now(), { delay, every } = this.#o.terminal ? TERMINAL : PLAIN;
    if (progress.phase !== this.#phase) {
      this.clear();
      this.#phase = progress.phase;
      this.#since = now;
      this.#drawnAt = -Infinity;
    }
    if (now - this.#since < delay || now - this.#drawnAt < every) return;
    this.#drawnAt = now;
    const line = describe(progress, (now - this.#since) / 1000);
    if (!this.#o.terminal) return this.#o.write(`${line}\n`);
    this.#o.write(`\r\x1b[K${line.slice(0, this.#o.columns() - 1)}`);
    this.#shown = true;
  }

  /** Takes the line away, so that other text can be written. */
  clear(): void {
    if (this.#shown) this.#o.write("\r\x1b[K");
    this.#shown = false;
    this.#phase = "";
  }
}

function describe({ phase, label, loaded, total }: Progress, seconds: number): string {
  if (phase === "compile") return `${VERBS.compile}: ${loaded}  ${label}`;
  const amount = phase === "score" ? (n: number) => `${n}` : formatBytes;
  const rate = loaded / seconds;
  const speed = `${amount(Math.round(rate))}/s`;
  if (total === 0) return `${VERBS[phase]} ${label}  ${amount(loaded)}  ${speed}`;
  const done = Math.min(1, loaded / total), cells = Math.round(done * CELLS);
  const bar = "█".repeat(cells) + "░".repeat(CELLS - cells);
  const left = rate > 0 ? `  ${clock((total - loaded) / rate)} left` : "";
  const part = `${amount(loaded)} of ${amount(total)}`;
  return `${VERBS[phase]} ${bar} ${`${Math.floor(100 * done)}`.padStart(3)} %  ${part}  ${speed}${left}  ${label}`;
}

function clock(seconds: number): string {
  const s = Math.ceil(seconds);
  return `${Math.floor(s / 60)}:${`${s % 60}`.padStart(2, "0")}`;
}
