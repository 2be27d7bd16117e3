/**
 * How weights are packed: one scheme a file, behind the interfaces {@linkcode Linear} and {@linkcode Embedding}.
 *
 * @module
 */
export * from "./dense.ts";
export * from "./linear.ts";
