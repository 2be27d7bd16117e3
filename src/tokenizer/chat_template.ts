/**
 * Chat templates: Jinja programs that a model's author wrote, rendered so that they cannot hang or kill the process.
 *
 * @module
 */
import * as jinja from "@huggingface/jinja";
import { Worker } from "node:worker_threads";
import { TemplateError } from "../errors.ts";
import { type RenderRequest, type RenderResult, renderTemplate, workerSource } from "./template_worker.ts";

const MAX_SOURCE_BYTES = 64 * 1024;
const MAX_OUTPUT_CHARS = 4 * 2 ** 20;
const MAX_VARIABLES_CHARS = 16 * 2 ** 20;
const RENDER_MS = 1000;
// How long the thread itself may take to start on a busy machine; the template is not read before.
const START_MS = 10_000;
const HEAP_MB = 64;
const MAX_TRUSTED = 256;

// Templates that rendered within their limits in a worker, by hash.
const trusted = new Set<string>();

/**
 * Renders `source` with `variables`.
 *
 * A template that is new to this process is parsed and rendered in a worker thread with 64 MB of heap and one second;
 * one that has done so once runs in this thread from then on, still against the clock. The worker needs no permission.
 *
 * @param source the Jinja template, at most 64 KB
 * @param variables what the template sees: plain JSON data
 * @param trust whether its author is trusted: then no worker is started
 * @returns the text, at most 4 Mi characters
 * @throws TemplateError if the template is refused, takes too long or too much, fails, or calls `raise_exception`
 */
export async function renderChatTemplate(
  source: string,
  variables: Record<string, unknown>,
  trust = false,
): Promise<string> {
  const bytes = new TextEncoder().encode(source);
  if (bytes.length > MAX_SOURCE_BYTES) {
    throw new TemplateError(
      `Cannot render the chat template as it must have at most ${MAX_SOURCE_BYTES} bytes: it has ${bytes.length}`,
    );
  }
  const request: RenderRequest = {
    source,
    variables: toJson(variables),
    now: Date.now(),
    milliseconds: RENDER_MS,
    maxOutput: MAX_OUTPUT_CHARS,
  };
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
  const inline = trust || trusted.has(hash);
  const result = inline ? renderTemplate(jinja, request) : await renderInWorker(request);
  if ("error" in result) throw failure(result);
  if (!inline && trusted.size < MAX_TRUSTED) trusted.add(hash);
  return result.text;
}

function toJson(variables: Record<string, unknown>): string {
  let text: string;
  try {
    text = JSON.stringify(variables);
  } catch (cause) {
    throw new TemplateError("Cannot render the chat template as messages and options must be plain JSON data", {
      cause,
    });
  }
  if (text.length <= MAX_VARIABLES_CHARS) return text;
  throw new TemplateError(
    `Cannot render the chat template as messages and options must have at most ${MAX_VARIABLES_CHARS} characters: ` +
      `they have ${text.length}`,
  );
}

function failure({ error, raised }: { error: string; raised: boolean }): TemplateError {
  return raised
    ? new TemplateError(error, { hint: "The chat template itself refuses these messages." })
    : new TemplateError(`Cannot render the chat template as it must run without an error: ${error}`);
}

async function renderInWorker(request: RenderRequest): Promise<RenderResult> {
  const limits = { maxOldGenerationSizeMb: HEAP_MB, maxYoungGenerationSizeMb: HEAP_MB / 4 };
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(workerSource())}`), {
    resourceLimits: limits,
  });
  const { promise, resolve } = Promise.withResolvers<RenderResult>();
  const stop = (error: string) => resolve({ error, raised: false });
  let timer = setTimeout(() => stop(`its thread did not start within ${START_MS} ms`), START_MS);
  worker.on("message", (message: "ready" | RenderResult) => {
    if (message !== "ready") return resolve(message);
    clearTimeout(timer);
    timer = setTimeout(() => stop(`it runs longer than ${RENDER_MS} ms`), RENDER_MS);
    worker.postMessage(request);
  });
  worker.on("error", (cause: Error) => stop(`its thread failed: ${cause.message}`));
  worker.on("exit", () => stop(`it needs more than ${HEAP_MB} MB`));
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    await worker.terminate();
  }
}
