/**
 * What WebGPU gives us, and nothing about tensors.
 *
 * @module
 */
export * from "./device.ts";
export { Guard } from "./guard.ts";
export * from "./kernel.ts";
export * from "./pool.ts";
export * from "./profile.ts";
export * from "./stream.ts";
export * from "./tuning.ts";
