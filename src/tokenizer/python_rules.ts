/**
 * What the template engine does otherwise than Python's Jinja, put right. These functions run in a worker from their
 * source text (see template_worker.ts), so they use nothing but each other and python_values.ts.
 *
 * @module
 */
import type * as Jinja from "@huggingface/jinja";
import { pythonEquals, pythonStr, pythonStrip, type Value } from "./python_values.ts";

/** The variables in sight. */
export type Scope = Jinja.Environment;
/** A node as the package types it. */
export type Statement = NonNullable<Parameters<Jinja.Interpreter["evaluate"]>[0]>;
/** A node of a parsed template, of which only the type is known. */
export type Node = { type: string } & Record<string, never>;

/** The interpreter at work. */
export interface Evaluator {
  /** The value of an expression or statement, as Python has it. */
  evaluate(statement: Statement | undefined, scope: Scope): Value;
  /** The same, as the package has it. */
  evaluateAsIs(node: object, scope: Scope): Value;
  /** A value of plain data. */
  convert(value: unknown): Value;
}

/** What the package does otherwise than Python; undefined where both agree. */
export function asPython(e: Evaluator, node: Node | undefined, scope: Scope): Value | undefined {
  switch (node?.type) {
    case "Given":
      return node["value"];
    case "BinaryExpression":
      return binaryAsPython(e, node, scope);
    case "CallExpression":
      return methodAsPython(e, node, scope);
    case "FilterExpression":
      return filterAsPython(e, node, scope);
    case "TestExpression": {
      const test: string = node["test"]!["value"];
      const types = { iterable: /^(Array|Tuple|String|Object|Undefined)/, number: /^(Integer|Float|Boolean)/ };
      const type = test === "sequence" ? types.iterable : types[test as keyof typeof types];
      return type && e.convert(type.test(e.evaluate(node["operand"], scope).type) !== node["negate"]);
    }
    case "For":
      return forAsPython(e, node, scope);
  }
}

/** A node that has a value already. */
function given(value: Value): object {
  return { type: "Given", value };
}

/** A list of values of the engine. */
function list(e: Evaluator, values: unknown): Value {
  return Object.assign(e.convert([]), { value: values });
}

function binaryAsPython(e: Evaluator, node: Node, scope: Scope): Value | undefined {
  const operator: string = node["operator"]!["value"];
  if (!["~", "+", "==", "!=", "in", "not in"].includes(operator)) return;
  const [left, right] = [e.evaluate(node["left"], scope), e.evaluate(node["right"], scope)];
  if (operator === "~") return e.convert(pythonStr(left) + pythonStr(right));
  if (operator === "==" || operator === "!=") return e.convert(pythonEquals(left, right) === (operator === "=="));
  if (operator === "+" && (left.type === "StringValue") !== (right.type === "StringValue")) {
    throw new Error(`"+" must add two strings: it adds ${left.type} and ${right.type}`);
  }
  if (operator !== "+" && /^(Array|Tuple)/.test(right.type)) {
    return e.convert((right.value as Value[]).some((item) => pythonEquals(item, left)) === (operator === "in"));
  }
  return e.evaluateAsIs({ ...node, left: given(left), right: given(right) }, scope);
}

/** A loop over the characters of a string, over nothing where there is nothing, and over tuples. */
function forAsPython(e: Evaluator, node: Node, scope: Scope): Value {
  const select = node["iterable"]!["type"] === "SelectExpression" ? node["iterable"]! : undefined;
  let items = e.evaluate(select ? select["lhs"] : node["iterable"], scope);
  if (items.type === "StringValue") items = e.convert([...items.value as string]);
  if (items.type === "UndefinedValue") items = e.convert([]);
  if (node["loopvar"]!["type"] === "TupleLiteral" && /^(Array|Tuple)/.test(items.type)) {
    const lists = (items.value as Value[]).map((item) => item.type === "TupleValue" ? list(e, item.value) : item);
    items = list(e, lists);
  }
  const iterable = select ? { ...select as Node, lhs: given(items) } : given(items);
  return e.evaluateAsIs({ ...node, iterable }, scope);
}

/** The methods strip, lstrip and rstrip with the characters to strip, and format. */
function methodAsPython(e: Evaluator, node: Node, scope: Scope): Value | undefined {
  const method: string = node["callee"]!["property"]?.["value"] ?? "";
  const args = node["args"] as unknown as Node[];
  const strips = /^[lr]?strip$/.test(method) && args.length <= 1;
  if (!strips && method !== "format") return;
  const text = e.evaluate(node["callee"]!["object"], scope);
  if (text.type !== "StringValue") return;
  if (!strips) return e.convert(formatAsPython(e, text.value as string, args, scope));
  const chars = args[0] && e.evaluate(args[0] as unknown as Statement, scope);
  const none = chars === undefined || chars.type === "NullValue";
  if (!none && chars.type !== "StringValue") return;
  const set = none ? undefined : chars.value as string;
  return e.convert(pythonStrip(text.value as string, set, method !== "rstrip", method !== "lstrip"));
}

/** `str.format` with fields that are a place, a name, or empty. */
function formatAsPython(e: Evaluator, text: string, args: readonly Node[], scope: Scope): string {
  const values = new Map<string, string>();
  for (const [i, arg] of args.entries()) {
    const name = arg.type === "KeywordArgumentExpression" ? arg["key"]!["value"] as string : `${i}`;
    const value = arg.type === "KeywordArgumentExpression" ? arg["value"] : arg;
    values.set(name, pythonStr(e.evaluate(value as unknown as Statement, scope)));
  }
  let next = 0;
  return text.replace(/\{\{|\}\}|\{(\w*)\}|[{}]/g, (field, name?: string) => {
    if (field === "{{" || field === "}}") return field[0]!;
    const value = name === undefined ? undefined : values.get(name === "" ? `${next++}` : name);
    if (value === undefined) throw new Error(`format() must have a value for each field: ${field} has none`);
    return value;
  });
}

/** Filters on values that the package refuses, or prints as JavaScript does. */
function filterAsPython(e: Evaluator, node: Node, scope: Scope): Value | undefined {
  const call: Node = node["filter"]!, args = (call["args"] ?? []) as unknown as Statement[];
  const filter: string = call["value"] ?? call["callee"]!["value"];
  const operand = e.evaluate(node["operand"], scope);
  const isList = /^(Array|Tuple)/.test(operand.type), isNothing = /^(Undefined|Null)/.test(operand.type);
  switch (filter) {
    case "string":
      return e.convert(pythonStr(operand));
    case "trim":
      if (args.length === 0) return e.convert(pythonStrip(pythonStr(operand)));
      break;
    case "upper":
      return e.convert(pythonStr(operand).toUpperCase());
    case "lower":
      return e.convert(pythonStr(operand).toLowerCase());
    case "capitalize": {
      const [first = "", ...rest] = pythonStr(operand);
      return e.convert(first.toUpperCase() + rest.join("").toLowerCase());
    }
    case "length":
    case "count":
      if (operand.type === "UndefinedValue") return e.convert(0);
      if (operand.type === "StringValue") return e.convert([...operand.value as string].length);
      break;
    case "join": {
      if (!isList || args.some((arg) => arg.type === "KeywordArgumentExpression") || args.length > 1) break;
      const between = args[0] ? pythonStr(e.evaluate(args[0], scope)) : "";
      return e.convert((operand.value as Value[]).map(pythonStr).join(between));
    }
    case "min":
    case "max": {
      const numbers = isList ? (operand.value as Value[]).map(({ value }) => value) : [];
      if (!numbers.every((n) => typeof n === "number") || args.length > 0) break;
      return numbers.length > 0
        ? e.convert(Math[filter](...numbers as number[]))
        : e.evaluateAsIs(given(operand), scope);
    }
    case "map":
    case "select":
    case "reject":
    case "selectattr":
    case "rejectattr":
      if (isNothing) return e.convert([]);
      break;
    case "tojson":
      if (holdsUndefined(operand)) throw new Error("tojson must have a value that is defined: it has an undefined one");
  }
  return e.evaluateAsIs({ ...node, operand: given(operand) }, scope);
}

function holdsUndefined({ type, value }: Value): boolean {
  if (/^(Array|Tuple)/.test(type)) return (value as Value[]).some(holdsUndefined);
  return type === "ObjectValue"
    ? (value as Map<string, Value>).values().some(holdsUndefined)
    : type === "UndefinedValue";
}

/** All functions of this file, for the worker. */
export const RULES: readonly ((...args: never[]) => unknown)[] = [
  asPython,
  given,
  list,
  binaryAsPython,
  forAsPython,
  methodAsPython,
  formatAsPython,
  filterAsPython,
  holdsUndefined,
];
