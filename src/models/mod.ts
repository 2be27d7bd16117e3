/**
 * Model families, and loading them.
 *
 * @module
 */
export type { ConfigJson } from "./config.ts";
export type { ApplyHead, Family, FamilyConfig, Head, Pass, Task } from "./family.ts";
export * from "./load_model.ts";
export * from "./model.ts";
export { MODEL_TYPES } from "./registry.ts";
export * from "./rope.ts";
