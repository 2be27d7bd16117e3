/**
 * Whole numbers between two bounds as a grammar.
 *
 * @module
 */

/**
 * EBNF of the whole numbers from `least` to `most`, at most 15 digits, as JSON writes them. Digit by digit each way is
 * taken once: of alternatives that begin alike, and of repetitions, the matcher takes more than they allow.
 *
 * It uses nothing but JavaScript: the thread that compiles grammars has it from its source text.
 */
export function integerRange(least: number, most: number): string {
  /** From `from` to `to` digits, any of them. */
  const free = (from: number, to: number): string => {
    const more = Array.from({ length: to - from }).reduce<string>((rest) => `([0-9] ${rest} | "")`, "");
    return `${"[0-9] ".repeat(from)}${more}` || '""';
  };
  /** Digits and what follows each, neighbours that go on alike together. */
  const choices = (digits: readonly number[], after: (digit: number) => string | undefined): string[] => {
    const groups: { from: number; to: number; rest: string }[] = [];
    for (const digit of digits) {
      const rest = after(digit), last = groups.at(-1);
      if (rest === undefined) continue;
      if (last?.rest === rest && last.to === digit - 1) last.to = digit;
      else groups.push({ from: digit, to: digit, rest });
    }
    return groups.map(({ from, to, rest }) => `[${from}-${to}] ${rest}`);
  };
  const DIGITS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
  /** What makes `prefix` a number from `low` to `high`; undefined where nothing does. */
  const after = (prefix: number, low: number, high: number): string | undefined => {
    const lengths = Array.from({ length: 16 - String(prefix).length }, (_, n) => {
      const first = prefix * 10 ** n, last = first + 10 ** n - 1;
      return last < low || first > high ? "none" : first >= low && last <= high ? "all" : "some";
    });
    if (!lengths.includes("some")) {
      const from = lengths.indexOf("all");
      return from === -1 ? undefined : free(from, lengths.lastIndexOf("all"));
    }
    const ways = choices(DIGITS, (digit) => after(10 * prefix + digit, low, high));
    return `(${[...ways, ...lengths[0] === "all" ? ['""'] : []].join(" | ")})`;
  };
  const positive = (low: number, high: number) => choices(DIGITS.slice(1), (digit) => after(digit, low, high));
  const below = least < 0 ? positive(Math.max(1, -most), -least).join(" | ") : "";
  const zero = least <= 0 && most >= 0 ? ['"0"'] : [];
  return `(${
    [...below ? [`"-" (${below})`] : [], ...zero, ...most > 0 ? positive(Math.max(1, least), most) : []].join(" | ")
  })`;
}
