// codebook_matmul: y = f(x · W) with w[k,n] = absmax[g] * book[code[k,n]], g the group of k and n, and f what
// quantized.wgsl does around a product
//
// groups   16 numbers, the code book; then absmax: [K / group, N4] as 4 f32 of 4 columns, or (NESTED) as their codes, 4
//          bytes; or (FLAT) one after the other along a row-major [N, K], where a group ends anywhere in a row.
//          NESTED: absmax = map[code] * scale + offset, each part with its own (offset, map of 256, scales of 256 groups)
// @header
const ROWS: u32 = 1u; // @const 1 4 8
const BITS: u32 = 4u;
const LOW: u32 = 4u;
const HIGH: u32 = 0u;
const SPAN: u32 = 32u;
// @one-of ALONE SUBGROUPS SPLIT
// @one-of X_BY_4 X_ANY
// @optional RESIDUAL NESTED FLAT NORM GATED
// @never SPLIT ROWS=8
// @never SUBGROUPS ROWS=8
// @include "quantized.wgsl"
// @include "codebook.wgsl"

// @include "book.wgsl"

var<private> columns: array<Column, 4>;

fn prepare(thread: u32, lane: u32, column: u32) {
  openBook(thread, LANES * SLICES, lane);
  // @unroll
  for (var c = 0u; c < 4u; c++) {
    columns[c] = columnOf(4u * column + c);
  }
}

fn valueOf(code: vec4<u32>, k: u32, column: u32, first: u32) -> vec4<f32> {
  // @if FLAT
  return entries(code, first) * absmaxOf(k);
  // @else
  return entries(code, first);
  // @end
}

fn absmaxOf(k: u32) -> vec4<f32> {
  return vec4<f32>(absmax(columns[0], k), absmax(columns[1], k), absmax(columns[2], k), absmax(columns[3], k));
}

fn scaleOf(run: u32, column: u32) -> vec4<f32> {
  // @if FLAT
  return vec4<f32>(1.0);
  // @else
  return absmaxOf(run * dims[5] * 32u);
  // @end
}

fn zeroOf(run: u32, column: u32) -> vec4<f32> {
  return vec4<f32>();
}
