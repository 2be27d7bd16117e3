/**
 * Whether no value can satisfy two JSON schemas, as far as can be seen.
 *
 * @module
 */
import type { Schema } from "./json_schema.ts";

const DEPTH = 8; // references and properties that are followed

/** Whether `a` and `b`, parts of `root`, take different types or constants, or require such of a property. */
export function disjoint(a: unknown, b: unknown, root: unknown, depth = DEPTH): boolean {
  const [x, y] = [resolved(a, root), resolved(b, root)];
  if (!x || !y || depth === 0) return false;
  const [xs, ys] = [constants(x), constants(y)];
  if (xs && ys) return !xs.some((value) => ys.includes(value));
  const [s, t] = [types(x), types(y)];
  if (!s || !t) return false;
  if (!s.some((type) => t.includes(type))) return true;
  if (s.join() !== "object" || t.join() !== "object") return false;
  const shared = names(x.required).filter((name) => names(y.required).includes(name));
  return shared.some((name) => disjoint(propertyOf(x, name), propertyOf(y, name), root, depth - 1));
}

function resolved(schema: unknown, root: unknown): Schema | undefined {
  let found = schema;
  for (let i = 0; i < DEPTH && isSchema(found) && typeof found.$ref === "string"; i++) {
    const path = found.$ref.split("/").slice(1).map((key) => key.replaceAll("~1", "/").replaceAll("~0", "~"));
    found = path.reduce((part, key) => isSchema(part) ? part[key] : undefined, root);
  }
  return isSchema(found) && found.$ref === undefined ? found : undefined;
}

function isSchema(value: unknown): value is Schema {
  return typeof value === "object" && value !== null;
}

function constants(schema: Schema): string[] | undefined {
  if (Object.hasOwn(schema, "const")) return [JSON.stringify(schema.const)];
  return Array.isArray(schema.enum) ? schema.enum.map((value) => JSON.stringify(value)) : undefined;
}

/** The types of its values; integers are numbers. */
function types(schema: Schema): unknown[] | undefined {
  const ofValue = (text: string) => {
    const value: unknown = JSON.parse(text);
    return value === null ? "null" : Array.isArray(value) ? "array" : typeof value;
  };
  const values = constants(schema);
  if (values) return values.map(ofValue);
  const given = schema.type === undefined ? undefined : [schema.type].flat();
  return given?.map((type) => type === "integer" ? "number" : type);
}

function propertyOf({ properties }: Schema, name: string): unknown {
  return isSchema(properties) ? properties[name] : undefined;
}

function names(required: unknown): readonly string[] {
  return Array.isArray(required) ? required.map(String) : [];
}
