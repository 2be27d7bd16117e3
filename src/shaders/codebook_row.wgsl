// codebook_row: codebook_matmul of one row for CPUs, as include/quantized_row.wgsl has it
//
// measured on 2 EPYC cores that other work shares, beside codebook_matmul, NF4: 1.1 to 1.3 times as fast a core
// @header
const BITS: u32 = 4u;
const LOW: u32 = 4u;
const HIGH: u32 = 0u;
const SPAN: u32 = 32u;
// @one-of SUBGROUPS
// @optional RESIDUAL NESTED NORM GATED
// @include "quantized_row.wgsl"
// @include "codebook.wgsl"
// @include "book.wgsl"

var<private> parts: array<Column, 4u * TILES>;

fn prepare(lane: u32, columns: array<u32, TILES>) {
  openBook(lane % 8u, 8u, lane);
  // @unroll
  for (var tile = 0u; tile < TILES; tile++) {
    // @unroll
    for (var c = 0u; c < 4u; c++) {
      parts[4u * tile + c] = columnOf(4u * columns[tile] + c);
    }
  }
}

fn valuesOf(low: vec4<u32>, high: vec4<u32>, j: u32, first: u32) -> vec4<f32> {
  return entries(low >> vec4<u32>(4u * j), first);
}

fn unitsOf(lane: u32) -> vec4<f32> {
  return vec4<f32>(1.0);
}

fn scaled(sum: vec4<f32>, all: f32, run: u32, tile: u32, column: u32) -> vec4<f32> {
  let k = run * dims[5] * 32u;
  let at = 4u * tile;
  return sum * vec4<f32>(absmax(parts[at], k), absmax(parts[at + 1u], k), absmax(parts[at + 2u], k), absmax(parts[at + 3u], k));
}
