// row bindings: of kernels that multiply few rows by codes on CPUs
@group(0) @binding(0) var<storage, read> x: array<quad>;
@group(0) @binding(1) var<storage, read> w: array<wordQuad>;
@group(0) @binding(2) var<storage, read> groups: array<u32>;
@group(0) @binding(3) var<storage, read> dims: array<u32>;
// @if RESIDUAL
@group(0) @binding(4) var<storage, read> residual: array<f32>;
// @end
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
// @if NORM
@group(0) @binding(6) var<storage, read> norm: array<quad>;
// @end
