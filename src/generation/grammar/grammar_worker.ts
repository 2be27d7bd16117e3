/**
 * Grammar matching, written so that it runs in a worker from its own source text: the functions of
 * {@linkcode grammarWorkerSource} use nothing but each other and what JavaScript itself has.
 *
 * @module
 */

import { integerRange } from "./integer_range.ts";

/** A vocabulary to write grammars in. */
export interface GrammarVocabulary {
  /** The tokens by id, as the vocabulary writes them; those that stand for no text are empty. */
  vocab: string[];
  /** How it writes them. */
  vocabType: "byte_level" | "byte_fallback" | "raw";
  /** Tokens that may follow what is complete. */
  stopTokenIds: number[];
}

/** What a worker is made with. */
export interface WorkerStart extends GrammarVocabulary {
  /** [2] int32: how many answers there were, and what the last one is. */
  state: Int32Array;
  /** [ceil(V / 32)] int32: bit i of word w tells whether token 32 w + i may follow. */
  mask: Int32Array;
}

/** A grammar to compile; the questions that follow are about it. */
export interface GrammarText {
  /** What `text` is. */
  kind: "jsonSchema" | "regex" | "grammar";
  /** The grammar. */
  text: string;
}

/** Asks which tokens may follow `tokens`. Rows have matchers of their own, so that little is matched anew. */
export interface MaskRequest {
  row: number;
  tokens: number[];
}

/** What a worker tells. */
export type WorkerMessage = "ready" | "compiled" | "known" | { error: string } | { notEnforced: string };

interface Matcher {
  acceptToken(id: number): boolean;
  getNextTokenBitmask(): Promise<Int32Array>;
  rollBack(tokens: number): void;
  dispose(): void;
}

/** What is used of the package. */
interface Library {
  Grammar: {
    fromJSONSchema(schema: string, ...format: unknown[]): Promise<{ toString(): string; dispose(): void }>;
  };
  TokenizerInfo: { createTokenizerInfo(...args: unknown[]): Promise<unknown> };
  GrammarCompiler: { createGrammarCompiler(info: unknown, cacheEnabled: boolean): Promise<Compiler> };
  GrammarMatcher: { createGrammarMatcher(compiled: unknown): Promise<Matcher> };
}

interface Compiled {
  dispose(): void;
}

interface Compiler {
  compileStructuralTag(tag: unknown): Promise<Compiled>;
  compileGrammar(text: string): Promise<Compiled>;
}

interface Port {
  on(event: "message", listener: (message: never) => void): void;
  postMessage(message: WorkerMessage): void;
}

// As the worker imports it: deno.json does not reach into a data: URL.
const XGRAMMAR = "npm:@mlc-ai/web-xgrammar@0.1.27";
const KEPT = 16; // compiled grammars of a worker

/** Source of the worker. The package is UMD that calls itself a module: it looks for `require` and leaves a global. */
export function grammarWorkerSource(): string {
  return `import { parentPort } from "node:worker_threads";
import { createRequire } from "node:module";
globalThis.require = createRequire("file:///");
globalThis.__filename = "/";
globalThis.__dirname = "/";
Object.defineProperty(globalThis, "location", { value: undefined }); // it would take a data: URL for a file
const told = [];
console.log = console.warn = console.error = (text) => told.push(String(text).replace(/^.*?[.]cc:[0-9]+: /, ""));
const found = await import(${JSON.stringify(XGRAMMAR)});
${integerRange.toString()}
${compileGrammar.toString()}
${serve.toString()}
parentPort.once("message", (start) =>
  ${serve.name}(globalThis.xgrammar ?? found, start, parentPort, told, ${KEPT}, ${compileGrammar.name}, ${integerRange.name}));
parentPort.postMessage("ready");`;
}

/** Compiles a grammar. */
async function compileGrammar(
  { Grammar }: Library,
  compiler: Compiler,
  { kind, text }: GrammarText,
  range: typeof integerRange,
): Promise<Compiled> {
  if (kind === "jsonSchema") {
    // on one line, with fixed separators: a model that likes spaces could else go on with them for ever
    const grammar = await Grammar.fromJSONSchema(text, false, -1, [", ", ": "], true);
    const most = 999_999_999_999_999, rest = '("." [0-9]+ | "") ([eE] ([+-] | "") [0-9] ([0-9] | "") | "")';
    const finite = grammar.toString() // numbers without end are infinite to who reads them
      .replace(/\\(?:\\|x([0-9a-f]{2}))/g, (all, hex) => hex ? "\\u00" + hex : all) // else "\xdf" and "e" were "\xdfe"
      .replace(/^basic_integer ::= .*$/m, "basic_integer ::= " + range(-most, most))
      .replace(/^basic_number ::= .*$/m, 'basic_number ::= ("-" | "") ' + range(0, most) + " " + rest)
      .replace(/"\\"@int:(-?\d+):(-?\d+)@\\""/g, (_, least, most) => range(Number(least), Number(most)));
    grammar.dispose();
    return await compiler.compileGrammar(finite);
  }
  if (kind === "grammar") return await compiler.compileGrammar(text);
  const format = { type: "regex", pattern: text };
  return await compiler.compileStructuralTag({ type: "structural_tag", format });
}

/** Compiles what it is told to, answers questions with a mask, and wakes who waits for it. */
function serve(
  library: Library,
  { vocab, vocabType, stopTokenIds, state, mask }: WorkerStart,
  port: Port,
  told: string[],
  kept: number,
  compile: typeof compileGrammar,
  range: typeof integerRange,
): void {
  const made = library.TokenizerInfo.createTokenizerInfo(vocab, vocabType, false, vocab.length, stopTokenIds)
    .then((info) => library.GrammarCompiler.createGrammarCompiler(info, false));
  const grammars = new Map<string, Compiled>(), rows = new Map<number, { matcher: Matcher; tokens: number[] }>();
  let current: Compiled | undefined;
  const use = async (grammar: GrammarText) => {
    for (const { matcher } of rows.values()) matcher.dispose();
    rows.clear();
    told.length = 0;
    const key = grammar.kind + " " + grammar.text, known = grammars.get(key);
    current = known ?? await compile(library, await made, grammar, range);
    if (told.length) throw current.dispose();
    grammars.delete(key); // the last used comes last
    grammars.set(key, current);
    const [oldest] = grammars.keys();
    if (grammars.size > kept) {
      grammars.get(oldest!)!.dispose();
      grammars.delete(oldest!);
    }
    return known ? "known" : "compiled";
  };
  const answer = async ({ row, tokens }: MaskRequest) => {
    const known = rows.get(row) ?? { matcher: await library.GrammarMatcher.createGrammarMatcher(current), tokens: [] };
    rows.set(row, known);
    let same = 0;
    while (same < tokens.length && known.tokens[same] === tokens[same]) same++;
    if (known.tokens.length > same) known.matcher.rollBack(known.tokens.length - same);
    known.tokens.length = same;
    for (const token of tokens.slice(same)) {
      if (!known.matcher.acceptToken(token)) return 2;
      known.tokens.push(token);
    }
    mask.set(await known.matcher.getNextTokenBitmask());
    return 1;
  };
  port.on("message", async (message: GrammarText | MaskRequest) => {
    if ("kind" in message) {
      try {
        port.postMessage(await use(message));
      } catch (error) {
        const [first] = told, warned = error === undefined;
        if (warned) port.postMessage({ notEnforced: first! });
        else port.postMessage({ error: first ?? String((error as Error | undefined)?.message ?? error) });
      }
      return;
    }
    Atomics.store(state, 1, await answer(message).catch(() => 3));
    Atomics.add(state, 0, 1);
    Atomics.notify(state, 0);
  });
}
