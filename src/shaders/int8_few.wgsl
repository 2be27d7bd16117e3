// int8_few: LLM.int8() of up to 4 rows for CPUs: y = f(x · W) as int8_matmul has it, where each subgroup finds the absmax,
// the outliers and the codes of x by itself, for these take less than the kernels that would do it once. NORM: x is first
// RMS-normed, x[m,k] * rsqrt(mean_k(x[m,k]^2) + EPS) * norm[k]
//
// x        [M, K / 4] vec4<f32>, M at most ROWS: an outlier of any row makes its column one of all
// w, groups, dims, y  as in int8_matmul        norm [K / 4] vec4<f32>
// grid     [N4 / 8 / TILES]: eight lanes load and quantize 32 numbers of x together and hand their codes round; each holds
//          ROWS x TILES x 4 sums, for a load of x costs as much as one of w
// traffic  x two or three times a workgroup, from cache; w once: bandwidth-bound
// paper    https://arxiv.org/abs/2208.07339
// @header
const ROWS: u32 = 1u; // @const 1 4
const TILES: u32 = 4u; // @const 4 2
const LANES: u32 = 8u;
const SPAN: u32 = 32u;
override EPS: f32 = 1e-6;
override THRESHOLD: f32 = 6.0;
// @one-of SUBGROUPS
// @optional OUTLIERS RESIDUAL NORM GATED
// @never ROWS=1 TILES=2
// @never ROWS=4 TILES=4

// @include "row_bindings.wgsl"
// @if NORM
var<private> rowScale: array<f32, ROWS>;
// @end
// @include "quantized_store.wgsl"
// @include "int8.wgsl"
// @include "lane_sum.wgsl"

fn laneMax(v: u32, lane: u32) -> u32 {
  let pairs = max(v, subgroupShuffle(v, lane ^ 1u));
  let fours = max(pairs, subgroupShuffle(pairs, lane ^ 2u));
  return max(fours, subgroupShuffle(fours, lane ^ 4u));
}

fn laneOr(v: u32, lane: u32) -> u32 {
  let pairs = v | subgroupShuffle(v, lane ^ 1u);
  let fours = pairs | subgroupShuffle(pairs, lane ^ 2u);
  return fours | subgroupShuffle(fours, lane ^ 4u);
}

// Four numbers of row r, of M, as they are quantized.
fn quadOf(r: u32, M: u32, q: u32) -> vec4<f32> {
  let quads = dims[0] / 4u;
  let v = fromQuad(x[min(r, M - 1u) * quads + q]);
  // @if NORM
  return v * rowScale[r] * fromQuad(norm[q]);
  // @else
  return v;
  // @end
}

// Sizes as bits, which order as they do; NaN is above all.
fn sizeOf(v: vec4<f32>) -> vec4<u32> {
  return bitcast<vec4<u32>>(v) & vec4<u32>(0x7fffffffu);
}

@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_id) thread: vec3<u32>,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let quads = dims[0] / 4u;
  let N4 = dims[2];
  let words = min(8u, arrayLength(&w)); // 8, but the compiler must not know: unrolled it takes seconds to compile
  let blocks = (quads + 7u) / 8u;
  let first = lane & ~7u; // of the 8 lanes that load x together
  // @if GATED
  let M = 2u * arrayLength(&y) / dims[3];
  // @else
  let M = arrayLength(&y) / dims[3];
  // @end
  // @include "row_columns.wgsl"
  // @if NORM
  var squares: array<f32, ROWS>;
  for (var q = thread.x; q < quads; q += 8u) {
    // @unroll
    for (var r = 0u; r < ROWS; r++) {
      let v = fromQuad(x[min(r, M - 1u) * quads + q]);
      squares[r] += dot(v, v);
    }
  }
  // @unroll
  for (var r = 0u; r < ROWS; r++) {
    rowScale[r] = inverseSqrt(laneSum(squares[r], lane) / f32(dims[0]) + EPS);
  }
  // @end
  var most: array<u32, ROWS>;
  for (var q = thread.x; q < quads; q += 8u) {
    // @unroll
    for (var r = 0u; r < ROWS; r++) {
      var size = sizeOf(quadOf(r, M, q));
      // @if OUTLIERS
      size = select(vec4<u32>(), size, size < vec4<u32>(bitcast<u32>(THRESHOLD)));
      // @end
      most[r] = max(max(most[r], max(size.x, size.y)), max(size.z, size.w));
    }
  }
  var absmax: array<f32, ROWS>;
  var steps: array<f32, ROWS>;
  // @unroll
  for (var r = 0u; r < ROWS; r++) {
    let bits = laneMax(most[r], lane);
    absmax[r] = bitcast<f32>(select(bits, 0x7fc00000u, bits >= 0x7f800000u)); // NaN does not vanish in a code
    steps[r] = select(0.0, 1.0 / bitcast<f32>(bits) * 127.0, bits > 0u && bits < 0x7f800000u); // as torch divides 127
  }

  var products: array<vec4<i32>, ROWS * TILES>;
  var rest: array<vec4<f32>, ROWS * TILES>;
  for (var block = 0u; block < blocks; block++) {
    let q = min(8u * block + thread.x, quads - 1u);
    var keep = select(0u, 0xffffffffu, 8u * block + thread.x < quads);
    var codes: array<u32, ROWS>;
    // @if OUTLIERS
    var most4 = vec4<u32>();
    // @end
    // @unroll
    for (var r = 0u; r < ROWS; r++) {
      let v = quadOf(r, M, q);
      let code = bitcast<vec4<u32>>(vec4<i32>(round(v * steps[r]))) & vec4<u32>(255u);
      codes[r] = code.x | (code.y << 8u) | (code.z << 16u) | (code.w << 24u);
      // @if OUTLIERS
      most4 = max(most4, sizeOf(v));
      // @end
    }
    // @if OUTLIERS
    let large = select(vec4<u32>(), vec4<u32>(1u), most4 >= vec4<u32>(bitcast<u32>(THRESHOLD)));
    let bits = (large.x | (large.y << 1u) | (large.z << 2u) | (large.w << 3u)) & keep;
    keep &= ~((large.x | (large.y << 8u) | (large.z << 16u) | (large.w << 24u)) * 255u);
    var outliers = laneOr(bits << (4u * thread.x), lane);
    while (outliers != 0u) {
      let k = 32u * block + firstTrailingBit(outliers);
      outliers &= outliers - 1u;
      // @unroll
      for (var tile = 0u; tile < TILES; tile++) {
        let code = codeOf(k, place[tile]);
        // @unroll
        for (var r = 0u; r < ROWS; r++) {
          rest[tile * ROWS + r] += code * quadOf(r, M, k / 4u)[k % 4u];
        }
      }
    }
    // @end
    // @unroll
    for (var r = 0u; r < ROWS; r++) {
      codes[r] &= keep;
    }
    for (var j = 0u; j < words; j++) {
      var word: array<u32, ROWS>;
      // @unroll
      for (var r = 0u; r < ROWS; r++) {
        word[r] = subgroupShuffle(codes[r], first | j);
      }
      // @unroll
      for (var tile = 0u; tile < TILES; tile++) {
        let code = codeWords(place[tile].x + (8u * block + j) * place[tile].y);
        // @unroll
        for (var r = 0u; r < ROWS; r++) {
          products[tile * ROWS + r] += dot4(code, word[r]);
        }
      }
    }
  }

  // @unroll
  for (var tile = 0u; tile < TILES; tile++) {
    let own = (group.x * TILES + tile) * wide + thread.x % wide;
    let scale = scaleOf(column[tile]);
    // @unroll
    for (var r = 0u; r < ROWS; r++) {
      let sum = (vec4<f32>(products[tile * ROWS + r]) * (absmax[r] / 127.0) + rest[tile * ROWS + r]) * scale;
      // @if GATED
      let up = subgroupShuffle(sum, lane ^ 4u);
      if (isGate && own < columns && r < M) {
        storeGated(r, own, sum, up);
      }
      // @else
      if (own < columns && r < M) {
        store(M, r, own, sum);
      }
      // @end
    }
  }
}
