/**
 * Closures of the caller that stand for an option: it must not be set too (semantics: G-27, G-45).
 *
 * @module
 */
import { ValueError } from "../errors.ts";
import { warnOnce } from "../warn.ts";
import { DEFAULTS, type GenerationConfigFields } from "./config_fields.ts";
import type { CallOptions } from "./options.ts";

type Options = GenerationConfigFields & Pick<CallOptions, "logitsProcessor" | "stoppingCriteria" | "profile">;

/** Options that act only where tokens are drawn. */
const DRAWS = ["temperature", "topK", "topP", "minP", "topH", "typicalP", "epsilonCutoff", "etaCutoff"];

/**
 * The options, those off that a closure stands for; by the profile "hf4" these must not be set.
 *
 * @throws {ValueError} if an option is set that a closure stands for
 */
export function withoutReplaced<O extends Options>(o: O): O {
  const closures = [
    ...(o.logitsProcessor ?? []).map((custom) => ({ custom, kind: "logits processor" })),
    ...(o.stoppingCriteria ?? []).map((custom) => ({ custom, kind: "stopping criteria" })),
  ];
  const off: Record<string, unknown> = {};
  for (const { custom, kind } of closures) {
    const { option } = custom;
    if (option === undefined || !isActive(o, option)) continue;
    if (o.profile !== "hf5") throw duplicate(kind, option, custom.name, JSON.stringify(o[option]));
    warnOnce(
      "UserWarning",
      `A custom ${kind} of type ${option} has been passed to \`generate()\`, but it was also created in \`generate()\`, ` +
        `given its parameterization. The custom ${option} will take precedence. Please check the docstring of ${option} ` +
        "to see related `generate()` flags.",
    );
    off[option] = offOf(option);
  }
  return { ...o, ...off };
}

function offOf(option: keyof GenerationConfigFields): unknown {
  return option === "topK" ? 0 : DEFAULTS[option];
}

function isActive(o: Options, option: keyof GenerationConfigFields): boolean {
  return o[option] !== offOf(option) && (o.doSample || !DRAWS.includes(option));
}

function duplicate(kind: string, option: string, name: string, value: string): ValueError {
  return new ValueError(
    `A custom ${kind} of type ${option} with values ${
      name || "anonymous"
    } has been passed to \`generate()\`, but it has ` +
      `already been created with the values ${value}. ${value} has been created by passing the corresponding arguments ` +
      `to generate or by the model's config default values. If you just want to change the default values of ${kind} ` +
      `consider passing them as arguments to \`generate()\` instead of using a custom ${kind}.`,
    { hint: `Leave out ${option}, or the closure.` },
  );
}
