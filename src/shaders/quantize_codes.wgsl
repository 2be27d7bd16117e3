// quantize_codes: codes of some rows of a matrix, packed as the kernels read them
//
// x        [rows, K] f32, or 16-bit floats two in a u32
// absmax   as block_absmax leaves it
// w        [K/32, BITS, columns] u32: code k of column n; NF4, FP4: the nearest entry of the code book to x / absmax, of
//          two the lower; INT8: round(x * 127 / absmax)
// params   as pack_codes.wgsl has them; from 8 on (log2 of a block, from one block's absmax to the next, the first)
// grid     [rows * K/32 / 64]: a thread 32 codes
// traffic  read x once, write an eighth: bandwidth-bound
// paper    https://arxiv.org/abs/2305.14314, https://arxiv.org/abs/2208.07339
// @one-of X_F32 X_F16 X_BF16
// @one-of NF4 FP4 INT8
// @optional FLAT
// @include "floats.wgsl"
// @include "float_at.wgsl"
@group(0) @binding(1) var<storage, read> absmax: array<f32>;
@group(0) @binding(2) var<storage, read> params: array<u32>;
@group(0) @binding(3) var<storage, read_write> w: array<u32>;
// @include "pack_codes.wgsl"

fn sizeAt(n: u32, k: u32) -> f32 {
  // @if FLAT
  return absmax[params[10] + ((n * params[1] + k) >> params[8])];
  // @else
  return absmax[params[10] + (k >> params[8]) * params[9] + n];
  // @end
}

fn codeAt(n: u32, k: u32) -> u32 {
  let value = floatAt(n * params[1] + k);
  let size = sizeAt(n, k);
  // @if INT8
  return u32(i32(round(value * select(0.0, 1.0 / size * 127.0, size > 0.0)))); // in this order, as torch divides 127
  // @else
  let v = select(0.0, value / size, size > 0.0);
  // @end
  // @if NF4
  return above(v, vec4<f32>(-0.8480964, -0.6106329, -0.45999527, -0.33967942)) +
    above(v, vec4<f32>(-0.2346074, -0.13791174, -0.045525018, 0.03979015)) +
    above(v, vec4<f32>(0.12025525, 0.20352125, 0.29201376, 0.38931254)) +
    above(v, vec4<f32>(0.50166345, 0.6427869, 0.86147845, 2.0));
  // @end
  // @if FP4
  let rank = above(v, vec4<f32>(-0.8333334, -0.5833334, -0.4166667, -0.2916667)) +
    above(v, vec4<f32>(-0.20833334, -0.0859375, -0.0026041667, 0.0)) +
    above(v, vec4<f32>(0.0026041667, 0.0859375, 0.20833334, 0.2916667)) +
    above(v, vec4<f32>(0.4166667, 0.5833334, 0.8333334, 2.0));
  let order = vec2<u32>(0x09efcdabu, 0x32547618u); // of the entries, lowest first, a nibble each
  return (order[rank / 8u] >> (4u * (rank % 8u))) & 15u;
  // @end
}

// how many of the bounds v is above
fn above(v: f32, bounds: vec4<f32>) -> u32 {
  let count = vec4<u32>(vec4<f32>(v) > bounds);
  return count.x + count.y + count.z + count.w;
}
