/**
 * Patterns of JSON schemas: which of them the matcher follows to the letter.
 *
 * @module
 */

// What stands for characters that a JSON text shows as they are: printable ASCII without quote and backslash.
const PLAIN = "[ !#$%&',\\-/0-9:;<=>@A-Z_`a-z~]";
const ESCAPED = "\\\\(?:[dw]|[.^$*+?()\\[\\]{}|/\\-])";
const ITEM = `(?:${ESCAPED}|[ !#-,./0-9:;<=>?@A-Z\\[^_\`a-z{|}~])`;
const RANGE = "(?:[0-9]-[0-9]|[A-Z]-[A-Z]|[a-z]-[a-z])";
const CLASS = `\\[(?!\\^)-?(?:${RANGE}|${ITEM})+-?\\]`;
const QUANTIFIER = "(?:[*+?]|\\{\\d+(?:,\\d*)?\\})\\??";
const PART = new RegExp(`${CLASS}|${ESCAPED}|${PLAIN}|${QUANTIFIER}|\\((?:\\?:|(?!\\?))|\\)|\\|`, "y");

/** What a pattern must do so that strings which match it are all that comes; undefined where it does. */
export function patternProblem(pattern: string): string | undefined {
  const inner = pattern.replace(/^\^/, "").replace(/(?<!\\)\$$/, "");
  let depth = 0, at = 0;
  while (at < inner.length) {
    PART.lastIndex = at;
    const [part] = PART.exec(inner) ?? [];
    if (part === undefined) return `do without ${JSON.stringify(inner.slice(at, at + 8))}`;
    if (part[0] === "(") depth++;
    if (part === ")") depth--;
    if (part === "|" && depth === 0) return "have its alternatives in brackets";
    at += part.length;
  }
  return undefined;
}
