// quantize_codes: codes of some rows of a matrix, packed as the kernels read them
//
// x        [rows, K] f32, or 16-bit floats two in a u32
// absmax   as block_absmax leaves it
// w        [K/32, BITS, columns] u32: code k of column n; NF4, FP4: the nearest entry of the code book to x / absmax, of
//          two the lower; INT8: round(x * 127 / absmax)
// params   as pack_codes.wgsl has them; from 8 on (log2 of a block, from one block's absmax to the next, the first)
// grid     [rows * K/32 / 64]: a thread 32 codes; with X_OCTETS they are of one block, and K is a multiple of 32
// traffic  read x once, write an eighth: bandwidth-bound
// paper    https://arxiv.org/abs/2305.14314, https://arxiv.org/abs/2208.07339
// @one-of X_F32 X_F16 X_BF16
// @one-of NF4 FP4 INT8
// @optional FLAT X_OCTETS
// @include "floats.wgsl"
// @include "float_at.wgsl"
@group(0) @binding(1) var<storage, read> absmax: array<f32>;
@group(0) @binding(2) var<storage, read> params: array<u32>;
@group(0) @binding(3) var<storage, read_write> w: array<u32>;
// @if X_OCTETS
// @include "grid.wgsl"
// @include "word_place.wgsl"

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let i = 64u * flatGroup(group, groups) + thread;
  let rows = params[0];
  let n = i % rows;
  let block = i / rows;
  if (32u * block >= params[1]) {
    return;
  }
  let scale = scaleOf(sizeAt(n, 32u * block));
  let start = n * params[1] + 32u * block;
  let place = wordPlace(params[3] + n);
  // @unroll
  for (var o = 0u; o < 4u; o++) {
    let v = octetAt(start + 8u * o);
    // @if INT8
    let at = place.x + (8u * block + 2u * o) * place.y;
    w[at] = pack4xU8(codesOf(v.a, scale));
    w[at + place.y] = pack4xU8(codesOf(v.b, scale));
    // @else
    let places = vec4<u32>(0u, 4u, 8u, 12u);
    let codes = (codesOf(v.a, scale) << places) | (codesOf(v.b, scale) << (places + 16u));
    w[place.x + (4u * block + o) * place.y] = codes.x | codes.y | codes.z | codes.w;
    // @end
  }
}
// @else
// @include "pack_codes.wgsl"

fn codeAt(n: u32, k: u32) -> u32 {
  return codesOf(vec4<f32>(floatAt(n * params[1] + k)), scaleOf(sizeAt(n, k))).x;
}
// @end

fn sizeAt(n: u32, k: u32) -> f32 {
  // @if FLAT
  return absmax[params[10] + ((n * params[1] + k) >> params[8])];
  // @else
  return absmax[params[10] + (k >> params[8]) * params[9] + n];
  // @end
}

// what makes numbers codes: a factor for INT8, a divisor for the others
fn scaleOf(size: f32) -> f32 {
  // @if INT8
  return select(0.0, 1.0 / size * 127.0, size > 0.0); // in this order, as torch divides 127
  // @else
  return select(1.0, size, size > 0.0); // where it is 0 all numbers are
  // @end
}

// @if INT8
fn codesOf(x: vec4<f32>, scale: f32) -> vec4<u32> {
  return vec4<u32>(vec4<i32>(round(x * scale))) & vec4<u32>(255u);
}
// @else
// bound i lies between entries i - 1 and i, in order; there is no bound 0
const BOUNDS = array<vec4<f32>, 4>(
  // @if NF4
  vec4<f32>(2.0, -0.8480964, -0.6106329, -0.45999527),
  vec4<f32>(-0.33967942, -0.2346074, -0.13791174, -0.045525018),
  vec4<f32>(0.03979015, 0.12025525, 0.20352125, 0.29201376),
  vec4<f32>(0.38931254, 0.50166345, 0.6427869, 0.86147845),
  // @else
  vec4<f32>(2.0, -0.8333334, -0.5833334, -0.4166667),
  vec4<f32>(-0.2916667, -0.20833334, -0.0859375, -0.0026041667),
  vec4<f32>(0.0, 0.0026041667, 0.0859375, 0.20833334),
  vec4<f32>(0.2916667, 0.4166667, 0.5833334, 0.8333334),
  // @end
);

fn choose(low: f32, high: f32, above: vec4<bool>) -> vec4<f32> {
  return select(vec4<f32>(low), vec4<f32>(high), above);
}

// How many bounds v is above, by halves.
fn rankOf(v: vec4<f32>) -> vec4<u32> {
  let b = BOUNDS;
  let c8 = v > vec4<f32>(b[2].x);
  let c4 = v > choose(b[1].x, b[3].x, c8);
  let c2 = v > select(choose(b[0].z, b[1].z, c4), choose(b[2].z, b[3].z, c4), c8);
  let low = select(choose(b[0].y, b[0].w, c2), choose(b[1].y, b[1].w, c2), c4);
  let high = select(choose(b[2].y, b[2].w, c2), choose(b[3].y, b[3].w, c2), c4);
  let c1 = v > select(low, high, c8);
  return select(vec4<u32>(), vec4<u32>(8u), c8) | select(vec4<u32>(), vec4<u32>(4u), c4) |
    select(vec4<u32>(), vec4<u32>(2u), c2) | select(vec4<u32>(), vec4<u32>(1u), c1);
}

fn codesOf(x: vec4<f32>, scale: f32) -> vec4<u32> {
  let rank = rankOf(x / scale);
  // @if NF4
  return rank;
  // @else
  let order = select(vec4<u32>(0x09efcdabu), vec4<u32>(0x32547618u), rank > vec4<u32>(7u)); // the entries in order
  return (order >> (4u * (rank & vec4<u32>(7u)))) & vec4<u32>(15u);
  // @end
}
// @end
