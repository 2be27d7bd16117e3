// quantized_matmul: y = f(x · W) with w[k,n] = scale[g,n] * (code[k,n] - zero[g,n]), g the group of k, and f what
// quantized.wgsl does around a product
//
// groups   [K / group, N4] scales of 4 columns as f16 in 2 words; then the zeros of 4 columns, in ZERO_BITS each;
//          BLOCKS: w[k,n] = scale[g,n] * (code[k,n] - zero) - least[g,n], see integer_groups.wgsl
// @header
override BITS: u32 = 4u; // 2 3 4 5 6 8
override LOW: u32 = (BITS & 8u) | (BITS & 4u) | ((BITS & 2u) >> (BITS & 4u)); // 2 2 4 4 4 8
const ROWS: u32 = 1u; // @const 1 4 8
override SPAN: u32 = 32u; // 32 16
override HIGH: u32 = BITS - LOW;
// @one-of ALONE SUBGROUPS SPLIT
// @one-of X_BY_4 X_ANY X_PERMUTED
// @optional RESIDUAL BLOCKS NORM GATED
// @never SPLIT ROWS=8
// @never SUBGROUPS ROWS=8
// @never X_PERMUTED BLOCKS
// @include "quantized.wgsl"
// @include "integer_groups.wgsl"

fn prepare(thread: u32, lane: u32, column: u32) {}

fn valueOf(code: vec4<u32>, k: u32, column: u32, first: u32) -> vec4<f32> {
  return vec4<f32>(code);
}
