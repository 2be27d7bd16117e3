/**
 * Lines that a chat reads: with editing and history on a terminal, as they are from a pipe.
 *
 * @module
 */
import process from "node:process";
import { createInterface } from "node:readline/promises";

const QUOTES = '"""';

/** Where a chat's messages come from. */
export interface ChatInput extends Disposable {
  /** Whether somebody types. */
  readonly terminal: boolean;
  /** Called at Ctrl-C on a terminal. */
  onInterrupt: () => void;
  /** The next message, of several lines between `"""`; undefined at the end. */
  next(prompt: string): Promise<string | undefined>;
}

/** Opens stdin; prompts go to stderr. */
export function openInput(terminal: boolean = Deno.stdin.isTerminal()): ChatInput {
  const lines = createInterface({
    input: process.stdin,
    output: terminal ? process.stderr : undefined,
    terminal,
    historySize: 500,
    removeHistoryDuplicates: true,
  });
  const iterator = lines[Symbol.asyncIterator]();
  let waiting = false;
  const input: ChatInput = {
    terminal,
    onInterrupt: () => {},
    next: (prompt) => readMessage(readLine, prompt),
    [Symbol.dispose]: () => lines.close(),
  };
  lines.on("SIGINT", () => {
    input.onInterrupt();
    if (waiting) lines.prompt();
  });
  const readLine = async (prompt: string) => {
    lines.setPrompt(prompt);
    if (terminal) lines.prompt();
    waiting = true;
    const { value, done } = await iterator.next();
    waiting = false;
    return done ? undefined : value as string;
  };
  return input;
}

/** Reads a line, or the lines from one that begins with `"""` to one that ends with it. */
export async function readMessage(
  readLine: (prompt: string) => Promise<string | undefined>,
  prompt: string,
): Promise<string | undefined> {
  const first = await readLine(prompt);
  if (!first?.trimStart().startsWith(QUOTES)) return first;
  const lines = [first.trimStart().slice(QUOTES.length)];
  while (!lines.at(-1)!.trimEnd().endsWith(QUOTES)) {
    const line = await readLine("... ");
    if (line === undefined) return lines.join("\n"); // stdin ended within the message
    lines.push(line);
  }
  return lines.join("\n").trimEnd().slice(0, -QUOTES.length).trim();
}
