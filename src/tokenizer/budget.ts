/** What encoding one text may cost with a tokenizer that a stranger may have written. */
import { LimitError } from "../errors.ts";

// A few seconds of matching; a text of 4 Mi characters takes some 3e7 with a real vocabulary.
const MAX_STEPS = 6e7;
const MAX_REGEX_MS = 2000;
// A normalizer may make a text longer (NFKD does), but not without bound.
const MAX_NORMALIZED_CHARS = 16 * 2 ** 20;

/** The budget of one text; spending more than it holds is a {@linkcode LimitError}. */
export class Budget {
  #steps = 0;
  #regexMs = 0;

  /** Takes `steps` of matching the text against a vocabulary. */
  spend(steps: number): void {
    this.#steps += steps;
    if (this.#steps > MAX_STEPS) {
      throw new LimitError(
        `Cannot encode the text as matching it must take at most ${MAX_STEPS} steps: this vocabulary needs more`,
        { hint: "Split the text, or use a tokenizer without very long tokens." },
      );
    }
  }

  /** When a regular expression that starts now has to end, by `performance.now()`. */
  regexDeadline(): number {
    return performance.now() + MAX_REGEX_MS - this.#regexMs;
  }

  /** Takes the milliseconds that a regular expression ran. */
  spendRegex(ms: number): void {
    this.#regexMs += ms;
    if (this.#regexMs > MAX_REGEX_MS) {
      throw new LimitError(
        `Cannot encode the text as its regular expressions must run at most ${MAX_REGEX_MS} ms: they ran longer`,
        { hint: "Split the text, or load the tokenizer with trust: true if you know who wrote it." },
      );
    }
  }

  /** Checks the length of a normalized text, in UTF-16 units. */
  checkLength(chars: number): void {
    if (chars > MAX_NORMALIZED_CHARS) {
      throw new LimitError(
        `Cannot encode the text as it must have at most ${MAX_NORMALIZED_CHARS} characters once normalized: ` +
          `it has ${chars}`,
      );
    }
  }
}
