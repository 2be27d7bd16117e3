/** What the turns of a run found, in a file that grows with each: a run that broke off goes on from there. */
import { jsonLines } from "../process.ts";
import type { Found } from "./run.ts";

/** A line of the file: the first says of which run it is. */
type Line = Found | { run: string };

/** The turns so far. */
export class Kept {
  readonly #file: string | undefined;
  readonly #found: Found[];
  /** Turns that did not fail, of whichever run the file was. */
  readonly #before: readonly Found[];

  private constructor(file: string | undefined, found: Found[], before: readonly Found[]) {
    this.#file = file;
    this.#found = found;
    this.#before = before;
  }

  /** The turns that `file` holds of `run`, less those that failed, if `resume` asks for them; else it begins anew. */
  static async open(file: string | undefined, run: string, resume: boolean): Promise<Kept> {
    const text = file ? await Deno.readTextFile(file).catch(() => "") : "";
    const [head, ...lines] = jsonLines<Line>(text);
    const before = lines.filter((line) => "turn" in line).filter(({ failed }) => !failed);
    const found = resume && head && "run" in head && head.run === run ? [...before] : [];
    if (file) await Deno.writeTextFile(file, [{ run }, ...found].map((line) => `${JSON.stringify(line)}\n`).join(""));
    return new Kept(file, found, before);
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

  /** The longest that `turn` took, else what it took in the run before; undefined where it is new. */
  seconds(turn: string): number | undefined {
    const of = (found: readonly Found[]) => found.filter((found) => found.turn === turn).map(({ seconds }) => seconds);
    const now = of(this.#found), before = of(this.#before);
    return now.length ? Math.max(...now) : before.length ? Math.min(...before) : undefined;
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
