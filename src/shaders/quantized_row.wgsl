// quantized_row: quantized_matmul of one row for CPUs, as include/quantized_row.wgsl has it
//
// measured on 2 EPYC cores that other work shares, a core, 4 bits in groups of 128, 4096²: 11.3 GFLOP/s; 8.7 with loads of 32
//          bits, 7.2 with a shift for each code and no strips; 4 tiles are slower
// @header
override BITS: u32 = 4u; // 2 3 4 5 6 8
override LOW: u32 = (BITS & 8u) | (BITS & 4u) | ((BITS & 2u) >> (BITS & 4u)); // 2 2 4 4 4 8
override SPAN: u32 = 32u; // 32 16
override HIGH: u32 = BITS - LOW;
// @one-of SUBGROUPS
// @optional RESIDUAL BLOCKS NORM GATED
// @include "quantized_row.wgsl"
// @include "integer_groups.wgsl"

fn prepare(lane: u32, columns: array<u32, TILES>) {}

// Bits that the code of input j of eight is left shifted by: what x is divided by costs less once than a shift each time.
fn shiftOf(j: u32) -> u32 {
  let shift = j * LOW % 32u;
  return select(shift, 0u, HIGH > 0u || shift + LOW == 32u); // as a number the highest would be negative
}

fn valuesOf(low: vec4<u32>, high: vec4<u32>, j: u32, first: u32) -> vec4<f32> {
  let shift = j * LOW % 32u;
  var code = (low >> vec4<u32>(shift - shiftOf(j))) & vec4<u32>(((1u << LOW) - 1u) << shiftOf(j));
  if (HIGH > 0u) {
    code |= ((high >> vec4<u32>(j * HIGH)) & vec4<u32>((1u << HIGH) - 1u)) << vec4<u32>(LOW);
  }
  return vec4<f32>(bitcast<vec4<i32>>(code));
}

// 2^-shift of the four inputs of a lane, which are the first or the last of eight.
fn unitsOf(lane: u32) -> vec4<f32> {
  let first = vec4<u32>(shiftOf(0u), shiftOf(1u), shiftOf(2u), shiftOf(3u));
  let last = vec4<u32>(shiftOf(4u), shiftOf(5u), shiftOf(6u), shiftOf(7u));
  let shifts = select(first, last, vec4<bool>(lane % 2u == 1u));
  return bitcast<vec4<f32>>((vec4<u32>(127u) - shifts) << vec4<u32>(23u));
}

fn scaled(sum: vec4<f32>, all: f32, run: u32, tile: u32, column: u32) -> vec4<f32> {
  let value = scaleOf(run, column) * (sum - zeroOf(run, column) * all);
  // @if BLOCKS
  return value - leastOf(run, column) * all;
  // @else
  return value;
  // @end
}
