/**
 * The shader assembler: whole-line directives in `.wgsl` files, and nothing more.
 *
 * - `// @include "x.wgsl"` puts the text of `src/shaders/include/x.wgsl` there;
 * - `// @if FLAG` … `// @else` … `// @end` keeps one branch (`// @if !FLAG` negates; blocks nest);
 * - `const NAME: u32 = 4; // @const` takes its value from the variant, and the default if it names none;
 * - `// @const` may be followed by the values that the library uses: `// @const 1 4 8`;
 * - `// @one-of F32 F16` and `// @optional BIAS` declare the flags: exactly one of these, any of those (variants.ts);
 *   `// @never BIAS N=8` names choices that are not made together;
 * - `// @unroll` before `for (var i = 0u; i < N; i++) {` repeats the body N times, N a number or a `const`: drivers unroll
 *   few loops by themselves, and an array that a loop indexes stays out of registers;
 * - `// @if INT64` needs no declaration: the device decides it, by whether its shaders load and store 64 bits at a time;
 * - `// @header` is where the lines that a backend wants (`enable subgroups;`) are put.
 *
 * @module
 */
import { GpuError } from "../errors.ts";

/** The parts of a variant that change its text. */
export interface Variant {
  /** Truth of the `@if` flags; a flag not named is false. */
  flags?: Readonly<Record<string, boolean>>;
  /** Values of the `@const` lines. */
  consts?: Readonly<Record<string, number>>;
  /** Lines for `// @header`. */
  header?: readonly string[];
}

/** Assembled WGSL, with the file and line that each of its lines came from. */
export interface Assembled {
  /** The text. */
  code: string;
  /** `lines[i]` says where line `i + 1` of the text came from. */
  lines: { file: string; line: number }[];
}

const DECLARATIONS = ["one-of", "optional", "never", "unroll"];

/** Assembles the `.wgsl` text `source` of `file` for one variant; `includes` maps file names to texts. */
export function assemble(
  file: string,
  source: string,
  includes: Readonly<Record<string, string>>,
  variant: Variant = {},
): Assembled {
  const out: string[] = [];
  const lines: Assembled["lines"] = [];
  const seen = new Set<string>();
  const unused = new Set(Object.keys(variant.consts ?? {}));

  const emit = (text: string, from: string) => {
    const open: boolean[] = []; // one entry per open @if: is its present branch kept?
    for (const [i, raw] of text.split("\n").entries()) {
      const where = { file: from, line: i + 1 };
      const [, word, argument = ""] = /^\s*\/\/ @([\w-]+)\s*(.*?)\s*$/.exec(raw) ?? [];
      if (word === "if") open.push((variant.flags?.[argument.replace("!", "")] ?? false) !== argument.startsWith("!"));
      else if (word === "else") open.push(!pop(open, where, "@else"));
      else if (word === "end") pop(open, where, "@end");
      else if (open.includes(false)) continue;
      else if (word === "include") include(argument.replaceAll('"', ""), where);
      else if (word === "header") { for (const line of variant.header ?? []) push(line, where); }
      else if (word === undefined || DECLARATIONS.includes(word)) push(substitute(raw), where);
      else throw shaderError(`${from}:${i + 1}`, `there is no directive "@${word}"`);
    }
    if (open.length) throw shaderError(from, `an @if is not closed by "// @end"`);
  };
  const push = (line: string, where: Assembled["lines"][number]) => {
    out.push(line);
    lines.push(where);
  };
  const include = (name: string, where: Assembled["lines"][number]) => {
    const text = includes[name];
    if (text === undefined) throw shaderError(`${where.file}:${where.line}`, `there is no include file "${name}"`);
    if (!seen.has(name)) emit(text, name);
    seen.add(name);
  };
  const substitute = (line: string) => {
    const [, head, name = ""] = /^(\s*const (\w+)(?:: \w+)? = ).*; \/\/ @const/.exec(line) ?? [];
    const value = variant.consts?.[name];
    unused.delete(name);
    return head === undefined || value === undefined ? line : `${head}${value};`;
  };

  emit(source, file);
  if (unused.size) throw shaderError(file, `it has no line "const NAME = …; // @const" for ${[...unused].join(", ")}`);
  const unrolled = unroll(out.map((text, i) => ({ text, where: lines[i]! })));
  return { code: unrolled.map(({ text }) => text).join("\n"), lines: unrolled.map(({ where }) => where) };
}

interface Line {
  text: string;
  where: Assembled["lines"][number];
}

/** Repeats the bodies of the loops that `// @unroll` stands before; a loop ends at the brace below its `for`. */
function unroll(lines: readonly Line[], consts: ReadonlyMap<string, number> = numbers(lines)): Line[] {
  const out: Line[] = [];
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i]!;
    if (!/^\s*\/\/ @unroll$/.test(line.text)) {
      out.push(line);
      continue;
    }
    const [, indent, name, limit = ""] =
      /^(\s*)for \(var (\w+) = 0u; \2 < (\w+); \2\+\+\) \{$/.exec(lines[i + 1]?.text ?? "") ?? [];
    const times = /^\d+u?$/.test(limit) ? parseInt(limit) : consts.get(limit);
    const end = lines.findIndex(({ text }, j) => j > i && text === `${indent}}`);
    if (times === undefined || end < 0) {
      const { file, line: at } = line.where;
      throw shaderError(
        `${file}:${at}`,
        '"// @unroll" must precede "for (var i = 0u; i < N; i++) {" with a constant N',
      );
    }
    const body = lines.slice(i + 2, end);
    for (let n = 0; n < times; n++) {
      const value = new RegExp(`\\b${name}\\b`, "g");
      const copy = body.map(({ text, where }) => ({ text: text.replace(value, `${n}u`), where }));
      out.push({ text: `${indent}{`, where: line.where }, ...unroll(copy, consts), lines[end]!);
    }
    i = end;
  }
  return out;
}

/** The constants that are plain numbers. */
function numbers(lines: readonly Line[]): Map<string, number> {
  const found = lines.map(({ text }) => /^\s*const (\w+)(?:: \w+)? = (\d+)u?;/.exec(text)).filter((m) => m !== null);
  return new Map(found.map(([, name, value]) => [name!, Number(value)]));
}

function pop(open: boolean[], where: { file: string; line: number }, word: string): boolean {
  const kept = open.pop();
  if (kept === undefined) throw shaderError(`${where.file}:${where.line}`, `"// ${word}" has no "// @if"`);
  return kept;
}

function shaderError(where: string, why: string): GpuError {
  return new GpuError(`Cannot assemble the shader ${where} as ${why}`);
}

/** A storage or uniform variable that a shader declares. */
export interface BindingSlot {
  /** The variable's name in WGSL. */
  name: string;
  /** Its `@binding` index. */
  index: number;
  /** How it is bound. */
  type: GPUBufferBindingType;
}

/** The bindings of group 0 that the assembled `code` declares, in order of index. */
export function bindingSlots(code: string): BindingSlot[] {
  const pattern = /@group\(0\)\s*@binding\((\d+)\)\s*var<(storage|uniform)(?:,\s*(read|read_write))?>\s*(\w+)/g;
  const slots = [...code.matchAll(pattern)].map(([, index, space, access, name]): BindingSlot => ({
    name: name!,
    index: Number(index),
    type: space === "uniform" ? "uniform" : access === "read_write" ? "storage" : "read-only-storage",
  }));
  return slots.sort((a, b) => a.index - b.index);
}
