/**
 * Grammar matching, written so that it runs in a worker from its own source text: the functions of
 * {@linkcode grammarWorkerSource} use nothing but each other and what JavaScript itself has.
 *
 * @module
 */

/** A grammar and the vocabulary to write it in. */
export interface CompileRequest {
  /** What `text` is. */
  kind: "jsonSchema" | "regex" | "grammar";
  /** The grammar. */
  text: string;
  /** The tokens by id, as the vocabulary writes them; those that stand for no text are empty. */
  vocab: string[];
  /** How it writes them. */
  vocabType: "byte_level" | "byte_fallback" | "raw";
  /** Tokens that may follow what is complete. */
  stopTokenIds: number[];
  /** [2] int32: how many answers there were, and whether the last one is one. */
  state: Int32Array;
  /** [ceil(V / 32)] int32: bit i of word w tells whether token 32 w + i may follow. */
  mask: Int32Array;
}

/** Asks which tokens may follow `tokens`. Rows have matchers of their own, so that little is matched anew. */
export interface MaskRequest {
  row: number;
  tokens: number[];
}

interface Matcher {
  acceptToken(id: number): boolean;
  getNextTokenBitmask(): Promise<Int32Array>;
  rollBack(tokens: number): void;
  isTerminated(): boolean;
}

/** What is used of the package. */
interface Library {
  TokenizerInfo: { createTokenizerInfo(...args: unknown[]): Promise<unknown> };
  GrammarCompiler: { createGrammarCompiler(info: unknown): Promise<Compiler> };
  GrammarMatcher: { createGrammarMatcher(compiled: unknown): Promise<Matcher> };
}

interface Compiler {
  compileJSONSchema(schema: string, ...format: unknown[]): Promise<unknown>;
  compileStructuralTag(tag: unknown): Promise<unknown>;
  compileGrammar(text: string): Promise<unknown>;
}

interface Port {
  on(event: "message", listener: (message: never) => void): void;
  postMessage(message: unknown): void;
}

// As the worker imports it: deno.json does not reach into a data: URL.
const XGRAMMAR = "npm:@mlc-ai/web-xgrammar@0.1.27";

/** Source of the worker. The package is UMD that calls itself a module: it looks for `require` and leaves a global. */
export function grammarWorkerSource(): string {
  return `import { parentPort } from "node:worker_threads";
import { createRequire } from "node:module";
globalThis.require = createRequire("file:///");
globalThis.__filename = "/";
globalThis.__dirname = "/";
Object.defineProperty(globalThis, "location", { value: undefined }); // it would take a data: URL for a file
let last = "";
console.error = (text) => last ||= String(text);
const found = await import(${JSON.stringify(XGRAMMAR)});
${compileGrammar.toString()}
${answerMasks.toString()}
const library = globalThis.xgrammar ?? found;
parentPort.once("message", async (request) => {
  try {
    ${answerMasks.name}(library, await ${compileGrammar.name}(library, request), request, parentPort);
    parentPort.postMessage("compiled");
  } catch (error) {
    parentPort.postMessage({ error: last.replace(/^.*?[.]cc:[0-9]+: /, "") || String(error?.message ?? error) });
  }
});
parentPort.postMessage("ready");`;
}

/** Compiles the grammar. */
async function compileGrammar(library: Library, request: CompileRequest): Promise<unknown> {
  const { kind, text, vocab, vocabType, stopTokenIds } = request;
  const info = await library.TokenizerInfo.createTokenizerInfo(vocab, vocabType, false, vocab.length, stopTokenIds);
  const compiler = await library.GrammarCompiler.createGrammarCompiler(info);
  // on one line, with fixed separators: a model that likes spaces could else go on with them for ever
  if (kind === "jsonSchema") return compiler.compileJSONSchema(text, false, -1, [", ", ": "], true);
  if (kind === "grammar") return compiler.compileGrammar(text);
  const format = { type: "regex", pattern: text };
  return compiler.compileStructuralTag({ type: "structural_tag", format });
}

/** Answers each request with a mask, and wakes who waits for it. */
function answerMasks(library: Library, compiled: unknown, { state, mask }: CompileRequest, port: Port): void {
  const rows = new Map<number, { matcher: Matcher; tokens: number[] }>();
  port.on("message", async ({ row, tokens }: MaskRequest) => {
    let fine = 1;
    try {
      const known = rows.get(row) ??
        { matcher: await library.GrammarMatcher.createGrammarMatcher(compiled), tokens: [] };
      rows.set(row, known);
      let same = 0;
      while (same < tokens.length && known.tokens[same] === tokens[same]) same++;
      if (known.tokens.length > same) known.matcher.rollBack(known.tokens.length - same);
      known.tokens.length = same;
      for (const token of tokens.slice(same)) {
        if (!known.matcher.acceptToken(token)) fine = 2;
        else known.tokens.push(token);
        if (fine === 2) break;
      }
      if (fine === 1) mask.set(await known.matcher.getNextTokenBitmask());
    } catch {
      fine = 3;
    }
    Atomics.store(state, 1, fine);
    Atomics.add(state, 0, 1);
    Atomics.notify(state, 0);
  });
}
