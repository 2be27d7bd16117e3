/**
 * JSON schemas as the matcher enforces them: what it passes over in silence is written otherwise, or refused, so that
 * no output breaks the schema. Where a schema leaves a choice, fewer documents may come than it takes.
 *
 * @module
 */
import { NotSupportedError, ValueError } from "../../errors.ts";
import { disjoint } from "./disjoint.ts";
import { patternProblem } from "./patterns.ts";

/** A JSON schema that is no boolean. */
export type Schema = Readonly<Record<string, unknown>>;

type Kind = "string" | "integer" | "number" | "object" | "array" | "boolean" | "null";

/** Keywords of each type; they say nothing of values of another. */
const OF_TYPE: Readonly<Record<Kind, readonly string[]>> = {
  object: [
    "properties",
    "required",
    "additionalProperties",
    "patternProperties",
    "minProperties",
    "maxProperties",
    "unevaluatedProperties",
  ],
  array: ["items", "prefixItems", "minItems", "maxItems", "unevaluatedItems", "minContains", "maxContains"],
  string: ["minLength", "maxLength", "pattern"],
  integer: ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"],
  number: ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"],
  boolean: [],
  null: [],
};
const TYPED = [...new Set(Object.values(OF_TYPE).flat())];
/** Keywords that take the place of all others. */
const WHOLE = ["$ref", "const", "enum", "anyOf", "oneOf", "allOf"];
const NEVER = [
  "not",
  "if",
  "then",
  "else",
  "uniqueItems",
  "contains",
  "multipleOf",
  "dependentSchemas",
  "dependentRequired",
  "dependencies",
  "propertyNames",
  "additionalItems",
  "$dynamicRef",
  "$recursiveRef",
];
const MOST = 999_999_999_999_999; // 15 digits, which every number keeps

/**
 * The schema to compile.
 *
 * @throws {ValueError} if it is no schema
 * @throws {NotSupportedError} if a keyword cannot be enforced where it stands
 */
export function enforceable(schema: unknown, path = "jsonSchema", root: unknown = schema): unknown {
  if (typeof schema === "boolean") return schema;
  if (typeof schema !== "object" || schema === null || Array.isArray(schema)) {
    throw new ValueError(`Cannot generate as ${path} must be an object or a boolean: it is ${JSON.stringify(schema)}`);
  }
  const given = schema as Schema, has = (name: string) => Object.hasOwn(given, name);
  const never = NEVER.find((name) => has(name) && given[name] !== false);
  if (never) throw cannot(path, `do without "${never}"`);
  const defs = ["$defs", "definitions"].filter(has).map((name) => [name, each(given[name], `${path}.${name}`, root)]);
  const [whole] = WHOLE.filter(has);
  const made = whole ? wholeSchema(given, whole, path, root) : typedSchema(given, path, root);
  return defs.length ? { ...made as Schema, ...Object.fromEntries(defs) } : made;
}

/** A schema that is one of {@linkcode WHOLE}. */
function wholeSchema(given: Schema, whole: string, path: string, root: unknown): unknown {
  const value = given[whole], beside = [...WHOLE, ...TYPED, "type"].filter((name) => Object.hasOwn(given, name));
  const alone = whole === "const" || whole === "enum" ? [whole, "type"] : [whole];
  const odd = beside.find((name) => !alone.includes(name));
  if (odd) throw cannot(path, `not have "${odd}" beside "${whole}"`);
  if (whole === "$ref") {
    if (/^#(\/|$)/.test(String(value))) return { $ref: value };
    throw cannot(path, `refer to a part of itself, not to ${JSON.stringify(value)}`);
  }
  if (whole === "const" || whole === "enum") return { enum: valuesOf(whole === "const" ? [value] : value, given.type) };
  if (!Array.isArray(value)) throw new ValueError(`Cannot generate as ${path}.${whole} must be an array: it is none`);
  const parts = value.map((part, i) => enforceable(part, `${path}.${whole}[${i}]`, root));
  if (whole === "allOf" && parts.length > 1) throw cannot(path, 'have one schema in "allOf"');
  if (whole === "allOf") return parts[0] ?? {};
  const overlap = whole === "oneOf" && value.some((a, i) => value.slice(i + 1).some((b) => !disjoint(a, b, root)));
  if (overlap) throw cannot(`${path}.oneOf`, 'have schemas of different types or constants, or be "anyOf"');
  return { anyOf: parts };
}

function valuesOf(values: unknown, type: unknown): unknown[] {
  const types = type === undefined ? undefined : [type].flat(), all = Array.isArray(values) ? values : [];
  return types ? all.filter((value) => types.some((each) => isOf(value, each))) : all;
}

function isOf(value: unknown, type: unknown): boolean {
  if (type === "integer") return Number.isInteger(value);
  if (type === "null" || type === "array") return type === "null" ? value === null : Array.isArray(value);
  return typeof value === type && value !== null && !Array.isArray(value);
}

/** A schema of one type or several; without a type, of the first that its keywords are about. */
function typedSchema(given: Schema, path: string, root: unknown): unknown {
  const kinds = Object.keys(OF_TYPE) as Kind[],
    has = (kind: Kind) => OF_TYPE[kind].some((k) => Object.hasOwn(given, k));
  const type = given.type ?? kinds.find(has);
  if (type === undefined) return {};
  if (!Array.isArray(type)) return ofType(given, type as Kind, path, root);
  return { anyOf: type.map((each) => ofType(given, each, path, root)) };
}

function ofType(given: Schema, type: Kind, path: string, root: unknown): unknown {
  if (type === "object") return objectSchema(given, path, root);
  if (type === "array") return arraySchema(given, path, root);
  if (type === "string") return stringSchema(given, path);
  if (type === "integer") return integerSchema(given, path);
  const bound = type === "number" && OF_TYPE.number.find((name) => Object.hasOwn(given, name));
  if (bound) throw cannot(path, `not have "${bound}" of numbers that are no integers`);
  return { type };
}

function stringSchema({ minLength, maxLength, pattern, format }: Schema, path: string): Schema {
  const length = { ...minLength !== undefined && { minLength }, ...maxLength !== undefined && { maxLength } };
  const bounded = Object.keys(length).length > 0;
  if (pattern === undefined) return { type: "string", ...length, ...!bounded && format !== undefined && { format } };
  if (bounded) throw cannot(path, 'not have a length beside "pattern"');
  return { type: "string", pattern: enforcedPattern(pattern, path) };
}

/** A constant that stands for the grammar of `integerRange`: the matcher's own ranges take numbers beyond the bounds. */
function integerSchema(given: Schema, path: string): Schema {
  const read = (name: string) => typeof given[name] === "number" ? given[name] : undefined;
  const least = Math.max(
    -MOST,
    Math.ceil(read("minimum") ?? -MOST),
    Math.floor(read("exclusiveMinimum") ?? -Infinity) + 1,
  );
  const most = Math.min(MOST, Math.floor(read("maximum") ?? MOST), Math.ceil(read("exclusiveMaximum") ?? Infinity) - 1);
  if (least <= most) return { const: `@int:${least}:${most}@` };
  throw new ValueError(`Cannot generate as the bounds of ${path} must leave an integer: they leave none`);
}

function arraySchema(given: Schema, path: string, root: unknown): Schema {
  const { items, prefixItems, minItems, maxItems } = given;
  const counts = { ...minItems !== undefined && { minItems }, ...maxItems !== undefined && { maxItems } };
  const first = Array.isArray(prefixItems)
    ? { prefixItems: prefixItems.map((each, i) => enforceable(each, `${path}.prefixItems[${i}]`, root)) }
    : {};
  return {
    type: "array",
    ...first,
    ...items !== undefined && { items: enforceable(items, `${path}.items`, root) },
    ...counts,
  };
}

/** Properties that are named come alone; what may come without a name could be one of them. */
function objectSchema(given: Schema, path: string, root: unknown): Schema {
  const { additionalProperties: more, patternProperties: patterns, minProperties, maxProperties } = given;
  const required = Array.isArray(given.required) ? [...new Set(given.required as string[])] : [];
  const named: Record<string, unknown> = { ...given.properties === undefined ? {} : object(given.properties, path) };
  for (const name of required.filter((name) => !Object.hasOwn(named, name))) {
    if (more === false) throw cannot(path, `have a property ${JSON.stringify(name)}, which it requires`);
    Object.defineProperty(named, name, { value: more ?? {}, enumerable: true });
  }
  const names = Object.keys(named).length, rules = Object.keys(patterns ?? {});
  if (rules.length > 1 || (rules.length && names)) {
    throw cannot(path, 'have "patternProperties" of one pattern, and alone');
  }
  if (minProperties && names === 0) throw cannot(path, 'not have "minProperties" without "properties"');
  for (const rule of rules) enforcedPattern(rule, `${path}.patternProperties`);
  const open = names === 0 && rules.length === 0 && more !== undefined;
  return {
    type: "object",
    ...(names > 0 || given.properties !== undefined) && { properties: each(named, `${path}.properties`, root) },
    ...required.length && { required },
    ...rules.length && { patternProperties: each(patterns, `${path}.patternProperties`, root) },
    ...open && { additionalProperties: enforceable(more, `${path}.additionalProperties`, root) },
    ...minProperties !== undefined && { minProperties },
    ...maxProperties !== undefined && { maxProperties },
  };
}

function each(schemas: unknown, path: string, root: unknown): unknown {
  const parts = Object.entries(object(schemas, path));
  return Object.fromEntries(parts.map(([key, part]) => [key, enforceable(part, `${path}.${key}`, root)]));
}

function object(value: unknown, path: string): object {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  throw new ValueError(`Cannot generate as ${path} must be an object: it is ${JSON.stringify(value)}`);
}

function enforcedPattern(pattern: unknown, path: string): string {
  const problem = typeof pattern === "string" ? patternProblem(pattern) : "be a text";
  if (problem) throw cannot(`${path}.pattern`, problem);
  return pattern as string;
}

function cannot(path: string, must: string): NotSupportedError {
  return new NotSupportedError(`Cannot generate as ${path} must ${must}: it cannot be enforced`, {
    hint: "Leave it out, and check what is generated.",
  });
}
