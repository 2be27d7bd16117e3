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

type Scope = Jinja.Environment;
type Statement = NonNullable<Parameters<Jinja.Interpreter["evaluate"]>[0]>;
type Value = ReturnType<Jinja.Interpreter["evaluate"]>;
/** A node of a parsed template, of which only the type is known. */
type Node = { type: string } & Record<string, never>;

/** The interpreter at work. */
interface Evaluator {
  /** The value of an expression or statement, as Python has it. */
  evaluate(statement: Statement | undefined, scope: Scope): Value;
  /** The same, as the package has it. */
  evaluateAsIs(node: object, scope: Scope): Value;
  /** A value of plain data. */
  convert(value: unknown): Value;
}

// As the worker imports it: deno.json does not reach into a data: URL.
const JINJA = "npm:@huggingface/jinja@0.5.11";

/** Source of the worker: the functions of this file, and a mailbox around them. */
export function workerSource(): string {
  const functions = [
    parseJsonText,
    pythonQuote,
    pythonRepr,
    pythonStr,
    pythonEquals,
    strftime,
    range,
    printedExpressions,
    binaryAsPython,
    stripAsPython,
    asPython,
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

/** What the package does otherwise than Python; undefined where both agree. */
function asPython(e: Evaluator, node: Node | undefined, scope: Scope): Value | undefined {
  switch (node?.type) {
    case "Given":
      return node["value"];
    case "BinaryExpression":
      return binaryAsPython(e, node, scope);
    case "CallExpression":
      return stripAsPython(e, node, scope);
    case "FilterExpression": {
      const filter: string = node["filter"]!["value"];
      if (filter !== "string" && filter !== "trim") return;
      const text = pythonStr(e.evaluate(node["operand"], scope));
      return e.convert(filter === "trim" ? text.trim() : text);
    }
    case "For": {
      if (node["iterable"]!["type"] === "SelectExpression") return;
      let items = e.evaluate(node["iterable"], scope);
      if (items.type === "StringValue") items = e.convert([...items.value as string]);
      if (items.type === "UndefinedValue") items = e.convert([]);
      return e.evaluateAsIs({ ...node, iterable: { type: "Given", value: items } }, scope);
    }
  }
}

function binaryAsPython(e: Evaluator, node: Node, scope: Scope): Value | undefined {
  const operator: string = node["operator"]!["value"];
  if (!["~", "+", "==", "!="].includes(operator)) return;
  const [left, right] = [e.evaluate(node["left"], scope), e.evaluate(node["right"], scope)];
  if (operator === "~") return e.convert(pythonStr(left) + pythonStr(right));
  if (operator !== "+") return e.convert(pythonEquals(left, right) === (operator === "=="));
  if ((left.type === "StringValue") !== (right.type === "StringValue")) {
    throw new Error(`"+" must add two strings: it adds ${left.type} and ${right.type}`);
  }
  const given = (value: Value) => ({ type: "Given", value });
  return e.evaluateAsIs({ ...node, left: given(left), right: given(right) }, scope);
}

/** The methods strip, lstrip and rstrip with the characters to strip. */
function stripAsPython(e: Evaluator, node: Node, scope: Scope): Value | undefined {
  const method: string = node["callee"]!["property"]?.["value"] ?? "";
  const [argument, more] = node["args"] as unknown as Statement[];
  if (!/^[lr]?strip$/.test(method) || argument === undefined || more !== undefined) return;
  const text = e.evaluate(node["callee"]!["object"], scope), chars = e.evaluate(argument, scope);
  if (text.type !== "StringValue" || chars.type !== "StringValue") return;
  const all = [...text.value as string], set = new Set(chars.value as string);
  let start = 0, end = all.length;
  while (method !== "rstrip" && start < end && set.has(all[start]!)) start++;
  while (method !== "lstrip" && end > start && set.has(all[end - 1]!)) end--;
  return e.convert(all.slice(start, end).join(""));
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

/** Python's `repr` of a string. */
function pythonQuote(text: string): string {
  const mark = text.includes("'") && !text.includes('"') ? '"' : "'";
  const escapes: Record<string, string> = { "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", [mark]: `\\${mark}` };
  return mark + text.replace(/[\\'"\p{Cc}]/gu, (c) => {
    if (c === "'" || c === '"') return escapes[c] ?? c;
    return escapes[c] ?? `\\x${c.charCodeAt(0).toString(16).padStart(2, "0")}`;
  }) + mark;
}

/** Python's `repr` of a value. */
function pythonRepr(value: Value): string {
  switch (value.type) {
    case "StringValue":
      return pythonQuote(value.value as string);
    case "BooleanValue":
      return value.value ? "True" : "False";
    case "NullValue":
      return "None";
    case "ArrayValue":
      return `[${(value.value as Value[]).map(pythonRepr).join(", ")}]`;
    case "TupleValue": {
      const items = (value.value as Value[]).map(pythonRepr);
      return `(${items.join(", ")}${items.length === 1 ? "," : ""})`;
    }
    case "ObjectValue": {
      const entries = [...value.value as Map<string, Value>];
      return `{${entries.map(([key, item]) => `${pythonQuote(key)}: ${pythonRepr(item)}`).join(", ")}}`;
    }
    default:
      return value.toString();
  }
}

/** Python's `str` of a value, as a template prints it: nothing for an undefined one. */
function pythonStr(value: Value): string {
  if (value.type === "StringValue") return value.value as string;
  return value.type === "UndefinedValue" ? "" : pythonRepr(value);
}

/** Python's `==`; dicts count as equal only in the same order of keys. */
function pythonEquals(left: Value, right: Value): boolean {
  const isNumber = (value: Value) => typeof value.value === "number" || typeof value.value === "boolean";
  if (isNumber(left) && isNumber(right)) return Number(left.value) === Number(right.value);
  if (left.value === undefined || right.value === undefined) return left.type === right.type; // none and undefined
  const both = typeof left.value === "object" && typeof right.value === "object";
  return both ? pythonRepr(left) === pythonRepr(right) : left.value === right.value;
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
