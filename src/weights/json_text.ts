/**
 * JSON.parse without a fault of V8's, by which an object gets a key that its text does not have.
 *
 * @module
 */

/**
 * Parses a JSON text.
 *
 * V8 (13.6 to 15.0 at least, see nodejs/node#63785) looks whether the key to come is that of an earlier object with the
 * same keys before it, and compares it with the key as it is written, escapes and all: once `{"a":0,"\\":0}` was parsed,
 * `{"a":0,"\n":0}` has a key `\` and none of a line feed. Vocabularies differ by just such keys. Here no key is parsed
 * that is written with an escape: a name without any stands for it until the objects are there.
 *
 * The function uses nothing of this file, so that a worker can be made of its source.
 *
 * @throws SyntaxError as JSON.parse does
 */
export function parseJsonText(text: string): unknown {
  let mark = "\ue000";
  while (text.includes(mark)) mark += "\ue000";
  const written: string[] = [];
  let renamed = "", done = 0;
  for (let at = text.indexOf("\\"), end = 0; at >= 0; at = text.indexOf("\\", end)) {
    for (end = at; end < text.length && text[end] !== '"';) end += text[end] === "\\" ? 2 : 1;
    let after = end + 1;
    while (/[ \t\r\n]/.test(text.charAt(after))) after++;
    if (text[after] !== ":") continue; // a value
    const start = text.lastIndexOf('"', at); // the first escape of a string has one quote before it
    renamed += text.slice(done, start + 1) + mark + written.length;
    written.push(text.slice(start, end + 1));
    done = end;
  }
  if (written.length === 0) return JSON.parse(text);
  let root: unknown, names: string[];
  try {
    names = written.map((literal) => JSON.parse(literal));
    root = JSON.parse(renamed + text.slice(done));
  } catch {
    return JSON.parse(text); // whose message tells the right place
  }
  const name = (key: string) => key.startsWith(mark) ? names[Number(key.slice(mark.length))]! : key;
  const isContainer = (value: unknown) => typeof value === "object" && value !== null;
  const restored = (value: object) =>
    !Array.isArray(value) && Object.keys(value).some((key) => key.startsWith(mark))
      ? Object.fromEntries(Object.entries(value).map(([key, item]) => [name(key), item]))
      : value;
  const holder = { root }, todo: object[] = [holder];
  for (let node = todo.pop(); node; node = todo.pop()) {
    if (Array.isArray(node)) {
      for (let i = 0; i < node.length; i++) if (isContainer(node[i])) todo.push(node[i] = restored(node[i]));
      continue;
    }
    for (const [key, value] of Object.entries(node)) {
      if (!isContainer(value)) continue;
      const whole = restored(value);
      if (whole !== value) Object.defineProperty(node, key, { value: whole }); // "__proto__" takes no assignment
      todo.push(whole);
    }
  }
  return holder.root;
}
