/**
 * Tensors: buffer, shape, dtype.
 *
 * @module
 */
export * from "./dtype.ts";
export * from "./scope.ts";
export * from "./shape.ts";
export * from "./tensor.ts";
