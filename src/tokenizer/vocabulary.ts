/** Tokens and their ids, both ways. */
import { asObject, MAX_ID, refuse, show } from "./checks.ts";

/** A vocabulary: ids are whole numbers from 0, with gaps where the file has them. */
export class Vocabulary {
  readonly #ids = new Map<string, number>();
  readonly #tokens: (string | undefined)[] = [];

  /** One more than the highest id. */
  get size(): number {
    return this.#tokens.length;
  }

  /** The id of `token`, or undefined. */
  id(token: string): number | undefined {
    return this.#ids.get(token);
  }

  /** The token of `id`, or undefined. */
  token(id: number): string | undefined {
    return this.#tokens[id];
  }

  /** Adds `token` as `id`; a token that is there already gets the new id. */
  set(token: string, id: number): void {
    while (this.#tokens.length < id) this.#tokens.push(undefined);
    this.#ids.set(token, id);
    this.#tokens[id] = token;
  }

  /** Tokens with their ids. */
  entries(): IterableIterator<[token: string, id: number]> {
    return this.#ids.entries();
  }
}

/** The vocabulary of a `{token: id}` object. */
export function parseVocabulary(value: unknown, path: string): Vocabulary {
  const entries = Object.entries(asObject(value, path));
  if (entries.length > MAX_ID + 1) refuse(path, `have at most ${MAX_ID + 1} entries`, entries.length);
  const vocabulary = new Vocabulary();
  for (const [token, id] of entries) {
    if (!Number.isInteger(id) || id as number < 0 || id as number > MAX_ID) {
      refuse(`the id of ${show(token)} in ${path}`, `be a whole number from 0 to ${MAX_ID}`, id);
    }
    vocabulary.set(token, id as number);
  }
  return vocabulary;
}
