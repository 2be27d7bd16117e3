/** What the turns of a run found, in a file that grows with each: a run that broke off goes on from there. */
import { jsonLines } from "../process.ts";
import type { Found } from "./run.ts";

/** A line of the file: the first says of which run it is. */
type Line = Found | { run: string };

/** The turns so far. */
export class Kept {
  readonly #file: string | undefined;
  readonly #found: Found[];

  private constructor(file: string | undefined, found: Found[]) {
    this.#file = file;
    this.#found = found;
  }

  /** The turns that `file` holds of `run`, less those that failed, if `resume` asks for them; else it begins anew. */
  static async open(file: string | undefined, run: string, resume: boolean): Promise<Kept> {
    const text = resume && file ? await Deno.readTextFile(file).catch(() => "") : "";
    const [head, ...lines] = jsonLines<Line>(text);
    const same = head !== undefined && "run" in head && head.run === run;
    const found = (same ? lines : []).filter((line) => "turn" in line).filter(({ failed }) => !failed);
    if (file) await Deno.writeTextFile(file, [{ run }, ...found].map((line) => `${JSON.stringify(line)}\n`).join(""));
    return new Kept(file, found);
  }

  /** Everything found. */
  get all(): readonly Found[] {
    return this.#found;
  }

  /** Whether `turn` had its turn in `round`. */
  has(round: number, turn: string): boolean {
    return this.#found.some((found) => found.round === round && found.turn === turn);
  }

  /** Whether `turn` has failed. */
  failed(turn: string): boolean {
    return this.#found.some((found) => found.turn === turn && found.failed);
  }

  /** The longest that `turn` took. */
  seconds(turn: string): number {
    return Math.max(0, ...this.#found.filter((found) => found.turn === turn).map(({ seconds }) => seconds));
  }

  /** Adds a turn that was not taken: a resumed run takes it. */
  note(found: Found): void {
    this.#found.push(found);
  }

  /** Adds what a turn found, on disk too. */
  async keep(found: Found): Promise<void> {
    this.#found.push(found);
    if (this.#file) await Deno.writeTextFile(this.#file, `${JSON.stringify(found)}\n`, { append: true });
  }
}
