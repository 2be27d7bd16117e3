/**
 * Which variants of a shader there are: what its `@one-of`, `@optional` and `@const` lines declare.
 *
 * @module
 */
import { GpuError } from "../errors.ts";
import type { Variant } from "./assemble.ts";

/** The choices that a shader leaves open. */
export interface Declared {
  /** Groups of flags of which exactly one is set: `// @one-of F32 F16`. */
  oneOf: string[][];
  /** Flags that may be set or not: `// @optional BIAS`; or every flag of an `@if`, where no line declares any. */
  optional: string[];
  /** Values that a constant takes, the default first: `const ROWS: u32 = 1; // @const 1 4 8`. */
  consts: Record<string, readonly number[]>;
  /** Choices that no op makes together: `// @never SPLIT ROWS=8`; `!BIAS` is a flag that is not set. */
  never: string[][];
}

/** What the directives of the shader text `source` declare. */
export function declared(source: string): Declared {
  const words = (directive: string) =>
    [...source.matchAll(new RegExp(`^// @${directive} (.*)$`, "gm"))].map(([, list]) => list!.trim().split(/\s+/));
  const oneOf = words("one-of");
  const optional = words("optional").flat();
  if (oneOf.length + optional.length === 0) {
    optional.push(...new Set([...source.matchAll(/^\s*\/\/ @if !?(\w+)/gm)].map(([, flag]) => flag!)));
  }
  const constants = source.matchAll(/^\s*const (\w+)(?:: \w+)? = (\S+?)(?:[uif])?; \/\/ @const(.*)$/gm);
  const consts = [...constants].map(([, name, value, more]) => {
    const values = [value!, ...more!.trim().split(/\s+/).filter(Boolean)].map(Number);
    return [name!, [...new Set(values)]] as const;
  });
  return { oneOf, optional, consts: Object.fromEntries(consts), never: words("never") };
}

/** The choices of `never` that a variant makes all the same; constants that it leaves out have their defaults. */
export function excluded({ never, consts }: Declared, variant: Variant): string[] | undefined {
  const made = (choice: string) => {
    if (choice.startsWith("!")) return !variant.flags?.[choice.slice(1)];
    const [word = "", value] = choice.split("=");
    return value === undefined
      ? variant.flags?.[word]
      : (variant.consts?.[word] ?? consts[word]?.[0]) === Number(value);
  };
  return never.find((choices) => choices.every(made));
}

/**
 * Checks that a launch asks for a declared variant, so that the test that compiles all declared ones misses none.
 *
 * @throws {GpuError} for a flag that is not declared, not exactly one flag of an `@one-of` group, or choices that `@never` names
 */
export function checkVariant(name: string, source: string, variant: Variant): void {
  const { flags = {}, consts = {} } = variant,
    choices = declared(source),
    { oneOf, optional, consts: values } = choices;
  const set = Object.keys(flags).filter((flag) => flags[flag]);
  const known = new Set([...oneOf.flat(), ...optional]);
  const unknown = set.filter((flag) => !known.has(flag));
  if (unknown.length) throw undeclared(name, `its flags must be among ${[...known].join(", ") || "none"}`, unknown);
  for (const group of oneOf) {
    const chosen = set.filter((flag) => group.includes(flag));
    if (chosen.length !== 1) throw undeclared(name, `one flag of ${group.join(", ")} must be set`, chosen);
  }
  for (const [word, value] of Object.entries(consts)) {
    const list = values[word];
    if (list && list.length > 1 && !list.includes(value)) {
      throw undeclared(name, `${word} must be one of ${list.join(", ")}`, [value]);
    }
  }
  const together = excluded(choices, variant);
  if (together) throw undeclared(name, "its shader must not exclude the choices", [together.join(" with ")]);
}

function undeclared(name: string, rule: string, came: readonly unknown[]): GpuError {
  return new GpuError(`Cannot run ${name} as ${rule}: current value is ${came.join(", ") || "none"}`);
}
