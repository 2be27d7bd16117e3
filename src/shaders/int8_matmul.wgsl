// int8_matmul: y = f((codes of x · codes of W) * rowAbsmax * columnAbsmax / 127² + outliers of x · W), f what
// quantized_store.wgsl does behind a product
//
// x        [M, K] f32, from which come the columns that are outliers
// q        as int8_quantize leaves it: from K/32 on how many outlier columns there are, and which; from K/32 + 1 + K on of
//          each row its absmax and its codes
// w        [K/32, 8, N4] vec4<u32> as codes.wgsl has it: 4 codes of each of 4 columns
// groups   [N4 * 4] columnAbsmax, then the bias, where there is one
// dims     (K, N, N4, columns of the product, -, -, the first that is its own, where the bias begins or 0)
// sums     of codes are i32, so exact; those of outliers f32
// grid     [N4 / 32, M / ROWS]: as in quantized.wgsl
// paper    https://arxiv.org/abs/2208.07339
// @header
const ROWS: u32 = 1u; // @const 1 4 8
const LANES: u32 = 32u;
// @one-of ALONE SUBGROUPS SPLIT
// @optional OUTLIERS RESIDUAL GATED
// @never SPLIT ROWS=8
// @never SUBGROUPS ROWS=8

// @if OUTLIERS
@group(0) @binding(0) var<storage, read> x: array<f32>;
// @end
@group(0) @binding(1) var<storage, read> q: array<u32>;
@group(0) @binding(2) var<storage, read> w: array<wordQuad>;
@group(0) @binding(3) var<storage, read> groups: array<u32>;
@group(0) @binding(4) var<storage, read> dims: array<u32>;
// @if RESIDUAL
@group(0) @binding(5) var<storage, read> residual: array<f32>;
// @end
@group(0) @binding(6) var<storage, read_write> y: array<f32>;
// @if SPLIT
const SLICES: u32 = 8u;
var<workgroup> partial: array<vec4<i32>, ROWS * SLICES * LANES>; // of codes, then of outliers: not every GPU has room for both
// @else
const SLICES: u32 = 1u;
// @end

// @include "quantized_store.wgsl"
// @include "int8.wgsl"

@compute @workgroup_size(LANES, SLICES)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_id) thread: vec3<u32>,
  // @if SUBGROUPS
  @builtin(subgroup_invocation_id) lane: u32,
  // @end
) {
  let K = dims[0];
  let N4 = dims[2];
  let words = min(8u, arrayLength(&w)); // 8, but the compiler must not know: unrolled it takes seconds to compile
  // @include "quantized_columns.wgsl"
  let place = placeOf(column);
  let blocks = (K + 31u) / 32u;
  let stride = 8u * blocks + 1u;
  let rows = blocks + 1u + K; // where they begin in q
  let row0 = group.y * ROWS;
  // @if SPLIT
  let slice = thread.y;
  // @else
  let slice = 0u;
  // @end
  var products: array<vec4<i32>, ROWS>;
  var rest: array<vec4<f32>, ROWS>;

  for (var block = slice; block < blocks; block += SLICES) {
    // @if SUBGROUPS
    var own: array<u32, ROWS>;
    // @unroll
    for (var r = 0u; r < ROWS; r++) {
      own[r] = q[rows + min(row0 + r, M - 1u) * stride + 1u + 8u * block + lane % 8u];
    }
    // @end
    for (var j = 0u; j < words; j += 2u) {
      let at = place.x + (8u * block + j) * place.y;
      let a = codeWords(at);
      let b = codeWords(at + place.y);
      // @unroll
      for (var r = 0u; r < ROWS; r++) {
        // @if SUBGROUPS
        let first = lane & ~7u;
        products[r] += dot4(a, subgroupShuffle(own[r], first | j)) + dot4(b, subgroupShuffle(own[r], first | (j + 1u)));
        // @else
        let begin = rows + min(row0 + r, M - 1u) * stride + 1u + 8u * block + j;
        products[r] += dot4(a, q[begin]) + dot4(b, q[begin + 1u]);
        // @end
      }
    }
  }

  // @if OUTLIERS
  for (var i = slice; i < q[blocks]; i += SLICES) {
    let k = q[blocks + 1u + i];
    let code = codeOf(k, place);
    // @unroll
    for (var r = 0u; r < ROWS; r++) {
      rest[r] += code * x[min(row0 + r, M - 1u) * K + k];
    }
  }
  // @end
  // @if SPLIT
  // @unroll
  for (var r = 0u; r < ROWS; r++) {
    partial[(r * SLICES + thread.y) * LANES + thread.x] = products[r];
  }
  workgroupBarrier();
  if (slice == 0u) {
    // @unroll
    for (var r = 0u; r < ROWS; r++) {
      for (var s = 1u; s < SLICES; s++) {
        products[r] += partial[(r * SLICES + s) * LANES + thread.x];
      }
    }
  }
  // @if OUTLIERS
  workgroupBarrier();
  // @unroll
  for (var r = 0u; r < ROWS; r++) {
    partial[(r * SLICES + thread.y) * LANES + thread.x] = bitcast<vec4<i32>>(rest[r]);
  }
  workgroupBarrier();
  if (slice == 0u) {
    // @unroll
    for (var r = 0u; r < ROWS; r++) {
      for (var s = 1u; s < SLICES; s++) {
        rest[r] += bitcast<vec4<f32>>(partial[(r * SLICES + s) * LANES + thread.x]);
      }
    }
  }
  // @end
  // @end
  var sums: array<vec4<f32>, ROWS>;
  let scale = scaleOf(column);
  // @unroll
  for (var r = 0u; r < ROWS; r++) {
    let absmax = bitcast<f32>(q[rows + min(row0 + r, M - 1u) * stride]);
    sums[r] = (vec4<f32>(products[r]) * (absmax / 127.0) + rest[r]) * scale;
  }
  // @include "quantized_finish.wgsl"
}
