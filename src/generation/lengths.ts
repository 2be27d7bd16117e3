/**
 * How long sequences may and must be (semantics: G-5 … G-8).
 *
 * @module
 */
import { ValueError } from "../errors.ts";
import { warnOnce } from "../warn.ts";
import { DEFAULTS } from "./config_fields.ts";
import type { GenerationOptions, ResolvedOptions } from "./options.ts";

const DOCS = "Please refer to the documentation for more information. " +
  "(https://huggingface.co/docs/transformers/main/en/main_classes/text_generation)";

/**
 * Lengths in tokens, prompt included: `maxNewTokens` wins over `maxLength`, and what the call gives over what a config
 * says.
 *
 * @param call what the call itself gave
 * @param longest length of the longest prompt
 * @throws {ValueError} if the prompt leaves no room
 */
export function lengthsOf(
  o: ResolvedOptions,
  call: GenerationOptions,
  longest: number,
): Pick<ResolvedOptions, "newTokens" | "maxLength" | "minLength"> {
  const byDefault = (call.maxLength ?? null) === null;
  const maxNewTokens = byDefault || (call.maxNewTokens ?? null) !== null ? o.maxNewTokens : null;
  let { maxLength, minLength } = o;
  if (maxNewTokens !== null) {
    if (!byDefault) precedence("max", maxNewTokens, maxLength);
    maxLength = longest + maxNewTokens;
  } else if (byDefault && maxLength === DEFAULTS.maxLength) {
    warnOnce(
      "UserWarning",
      `Using the model-agnostic default \`maxLength\` (=${maxLength}) to control the generation length. We recommend ` +
        "setting `maxNewTokens` to control the maximum length of the generation.",
    );
  }
  if (o.minNewTokens !== null) {
    if ((call.minLength ?? null) !== null) precedence("min", o.minNewTokens, minLength);
    minLength = longest + o.minNewTokens;
  }
  if (longest >= maxLength) {
    throw new ValueError(
      `Input length of inputIds is ${longest}, but \`maxLength\` is set to ${maxLength}. This can lead to unexpected ` +
        "behavior. You should consider increasing `maxLength` or, better yet, setting `maxNewTokens`.",
      { hint: "Pass maxNewTokens, which counts new tokens only." },
    );
  }
  const note = byDefault ? ` Note that \`maxLength\` is set to ${maxLength}, its default value.` : "";
  if (minLength > maxLength) {
    unfeasible(`\`minLength\` (${minLength}) is larger than the maximum possible length (${maxLength}).`, note);
    if (o.minNewTokens !== null) {
      const added =
        `\`minNewTokens\` (${o.minNewTokens}), when added to the prompt length (${longest}), is larger than`;
      unfeasible(`${added} the maximum possible length (${maxLength}).`, note);
    }
  }
  return { maxLength, minLength, newTokens: maxLength - longest };
}

function precedence(which: "max" | "min", tokens: number, length: number): void {
  const [news, total] = [`${which}NewTokens`, `${which}Length`];
  const text = `Both \`${news}\` (=${tokens}) and \`${total}\`(=${length}) seem to have been set. `;
  warnOnce("log", `${text}\`${news}\` will take precedence. ${DOCS}`);
}

function unfeasible(what: string, note: string): void {
  const stops = "Generation will stop at the defined maximum length. You should decrease the minimum length and/or " +
    "increase the maximum length.";
  warnOnce("UserWarning", `Unfeasible length constraints: ${what} ${stops}${note}`);
}
