/**
 * The rendering of a chat template, written so that it runs in a worker from its own source text.
 *
 * A worker started from a file needs permission to read that file, and one from an https: address is refused; source
 * text in a data: URL needs no permission and works wherever this module was loaded from. So the functions of
 * {@linkcode workerSource} use nothing but each other and what JavaScript itself has.
 *
 * @module
 */
import type * as Jinja from "@huggingface/jinja";
import { parseJsonText } from "../weights/json_text.ts";
import { asPython, type Evaluator, type Node, RULES, type Scope, type Statement } from "./python_rules.ts";
import { pythonStr, type Value, VALUES } from "./python_values.ts";

/** What to render, as plain data. */
export interface RenderRequest {
  /** The template. */
  source: string;
  /** The variables that it sees, as a JSON object. */
  variables: string;
  /** The time that `strftime_now` tells, in ms. */
  now: number;
  /** Stops after this many ms. */
  milliseconds: number;
  /** The longest text that the template may make, in UTF-16 units. */
  maxOutput: number;
}

/** What came of it: the text, or why there is none; `raised` marks the template's own `raise_exception`. */
export type RenderResult = { text: string } | { error: string; raised: boolean };

// As the worker imports it: deno.json does not reach into a data: URL.
const JINJA = "npm:@huggingface/jinja@0.5.11";

/** Source of the worker: the functions of this file, and a mailbox around them. */
export function workerSource(): string {
  const functions = [
    ...VALUES,
    ...RULES,
    parseJsonText,
    strftime,
    range,
    printedExpressions,
    makeInterpreter,
    renderTemplate,
  ];
  return `import { parentPort } from "node:worker_threads";
import * as jinja from ${JSON.stringify(JINJA)};
${functions.join("\n")}
parentPort.once("message", (request) => parentPort.postMessage(${renderTemplate.name}(jinja, request)));
parentPort.postMessage("ready");`;
}

/** Renders a template with the globals that Transformers defines, printing values as Python does. */
export function renderTemplate(jinja: typeof Jinja, request: RenderRequest): RenderResult {
  let raised = false;
  try {
    const environment = new jinja.Environment();
    const globals: Record<string, unknown> = {
      true: true,
      false: false,
      none: null,
      True: true,
      False: false,
      None: null,
      range,
      strftime_now: (format: string) => strftime(format, request.now),
      raise_exception(message: unknown) {
        raised = true;
        throw new Error(String(message));
      },
    };
    for (const [name, value] of Object.entries({ ...globals, ...parseJsonText(request.variables) as object })) {
      environment.set(name, value);
    }
    const program = jinja.parse(jinja.tokenize(request.source, { lstrip_blocks: true, trim_blocks: true }));
    const interpreter = makeInterpreter(jinja, environment, request, printedExpressions(program));
    return { text: interpreter.run(program).value as string };
  } catch (error) {
    return { error: error instanceof Error ? error.message : String(error), raised };
  }
}

/** An interpreter that stops in time, prints as Python does, and loops over the characters of a string. */
function makeInterpreter(
  jinja: typeof Jinja,
  environment: Scope,
  { milliseconds, maxOutput }: RenderRequest,
  printed: Set<unknown>,
): Jinja.Interpreter {
  const deadline = performance.now() + milliseconds;
  const convert = (value: unknown): Value => new jinja.Environment().set("value", value);
  let steps = 0;

  class PythonInterpreter extends jinja.Interpreter {
    readonly #package: Evaluator = {
      evaluate: (statement, scope) => this.evaluate(statement, scope),
      evaluateAsIs: (node, scope) => super.evaluate(node as unknown as Statement, scope),
      convert,
    };

    override evaluate(statement: Statement | undefined, scope: Scope): Value {
      // A loop, a call or a filter can take long by itself.
      const heavy = statement !== undefined && /^(For|Call|Filter)/.test(statement.type);
      if ((heavy || ++steps % 64 === 0) && performance.now() > deadline) {
        throw new Error(`it runs longer than ${milliseconds} ms`);
      }
      const value = asPython(this.#package, statement as unknown as Node, scope) ?? super.evaluate(statement, scope);
      if (value.type === "StringValue") {
        if ((value.value as string).length <= maxOutput) return value;
        throw new Error(`it makes a text of more than ${maxOutput} characters`);
      }
      return printed.has(statement) ? convert(pythonStr(value)) : value;
    }
  }
  return new PythonInterpreter(environment);
}

/** The expressions that a template prints: those that stand in a body, not within another expression. */
function printedExpressions(node: unknown, found: Set<unknown> = new Set()): Set<unknown> {
  for (const key of ["body", "alternate", "defaultBlock"]) {
    const body = (node as Record<string, unknown>)[key];
    for (const child of Array.isArray(body) ? body as Statement[] : []) {
      if (/Literal|Identifier|Expression|Ternary/.test(child.type)) found.add(child);
      printedExpressions(child, found);
    }
  }
  return found;
}

/** Python's `range`, with an end. */
function range(start: number, stop?: number, step = 1): number[] {
  const [from, to] = stop === undefined ? [0, start] : [start, stop];
  const count = Math.max(0, Math.ceil((to - from) / step));
  if (!(count <= 100_000)) throw new Error("range() must make at most 100000 numbers");
  return Array.from({ length: count }, (_, i) => from + i * step);
}

/** Python's `strftime` in the C locale, for the codes that chat templates use. */
function strftime(format: string, now: number): string {
  const date = new Date(now);
  const months = "January February March April May June July August September October November December".split(" ");
  const days = "Sunday Monday Tuesday Wednesday Thursday Friday Saturday".split(" ");
  const month = months[date.getMonth()]!, weekday = days[date.getDay()]!, hours = date.getHours();
  const pad = (n: number) => String(n).padStart(2, "0");
  const parts: Record<string, string> = {
    Y: String(date.getFullYear()),
    y: pad(date.getFullYear() % 100),
    m: pad(date.getMonth() + 1),
    d: pad(date.getDate()),
    B: month,
    b: month.slice(0, 3),
    A: weekday,
    a: weekday.slice(0, 3),
    H: pad(hours),
    I: pad(hours % 12 || 12),
    p: hours < 12 ? "AM" : "PM",
    M: pad(date.getMinutes()),
    S: pad(date.getSeconds()),
    "%": "%",
  };
  return format.replace(/%([a-zA-Z%])/g, (whole, code: string) => parts[code] ?? whole);
}
