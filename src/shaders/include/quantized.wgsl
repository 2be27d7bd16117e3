// quantized: the product of x with codes of BITS bits in blocks of 32 along K, whatever a code stands for, and what stands
// around it: with NORM x is first RMS-normed, x[m,k] * rsqrt(mean_k(x[m,k]^2) + EPS) * norm[k], the scale of a row found
// beside the sums; y[m,n] = act(sum[m,n] + bias[n]) + residual[m,n], or with GATED, where the columns are two halves,
// y[m,n] = act(sum[m,n] + bias[n]) * (sum[m,N/2+n] + bias[N/2+n]) + residual[m,n]
//
// x        [M, K] f32          y [PARTS, M, columns of all matrices / PARTS] f32          sums are f32
// w        [K/32, BITS, N4] vec4<u32> as codes.wgsl has it: 32 codes of a column are BITS words, of 4 columns a vec4.
//          The first LOW rows hold the low LOW bits of each code, code k at bit LOW * k; the others the bits above them
// groups   what scales them: the layout is the shader's that includes this; then the bias, where there is one
// dims     see dimsOf in src/ops/quantized_matmul.ts
// grid     [N4 / 32, M / ROWS]: a thread holds ROWS x 4 sums, so each code is unpacked once for ROWS rows;
//          with SPLIT, 8 threads share the sum over K of one tile, so that a single row fills a GPU;
//          with SUBGROUPS, 8 lanes load x together: on a CPU a load is dear and a shuffle is not;
//          with GATED, threads 0 to 3 of 8 hold sums of the first half of the columns, 4 to 7 those of the second
// traffic  w once for ROWS rows, x N/128 times from cache: bandwidth-bound for few rows
// paper    https://arxiv.org/abs/2210.17323, https://arxiv.org/abs/2305.14314
const LANES: u32 = 32u;
override EPS: f32 = 1e-6;
// @include "quantized_store.wgsl"
// @include "codes.wgsl"

// @if X_BY_4
@group(0) @binding(0) var<storage, read> x: array<quad>;
// @else
@group(0) @binding(0) var<storage, read> x: array<f32>;
// @end
@group(0) @binding(1) var<storage, read> w: array<wordQuad>;
@group(0) @binding(2) var<storage, read> groups: array<u32>;
@group(0) @binding(3) var<storage, read> dims: array<u32>;
// @if RESIDUAL
@group(0) @binding(4) var<storage, read> residual: array<f32>;
// @end
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
// @if NORM
// @if X_BY_4
@group(0) @binding(6) var<storage, read> norm: array<quad>;
// @else
@group(0) @binding(6) var<storage, read> norm: array<f32>;
// @end
// @end
// @if SPLIT
const SLICES: u32 = 8u;
var<workgroup> partial: array<vec4<f32>, ROWS * SLICES * LANES>;
// @if NORM
var<workgroup> partialSquares: array<f32, ROWS * SLICES>;
// @end
// @else
const SLICES: u32 = 1u;
// @end

// Four numbers of a row of x, zeros past its end.
fn quadOf(row: u32, q: u32) -> vec4<f32> {
  let K = dims[0];
  // @if X_BY_4
  return select(vec4<f32>(), fromQuad(x[row * (K / 4u) + q]), q < K / 4u);
  // @else
  var v = vec4<f32>();
  for (var c = 0u; c < 4u; c++) {
    let k = 4u * q + c;
    // @if X_PERMUTED
    v[c] = select(0.0, x[row * K + dims[16u + k]], k < K);
    // @else
    v[c] = select(0.0, x[row * K + k], k < K);
    // @end
  }
  return v;
  // @end
}

// @if NORM
fn normOf(q: u32) -> vec4<f32> {
  // @if X_BY_4
  return fromQuad(norm[min(q, dims[0] / 4u - 1u)]); // what lies beyond may be NaN, which times 0 is not 0
  // @else
  var v = vec4<f32>();
  for (var c = 0u; c < 4u; c++) {
    let k = min(4u * q + c, dims[0] - 1u);
    // @if X_PERMUTED
    v[c] = norm[dims[16u + k]];
    // @else
    v[c] = norm[k];
    // @end
  }
  return v;
  // @end
}
// @end

// @if SUBGROUPS
// @include "lane_sum.wgsl"
// @end

@compute @workgroup_size(LANES, SLICES)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_id) thread: vec3<u32>,
  // @if SUBGROUPS
  @builtin(subgroup_invocation_id) lane: u32,
  // @end
) {
  // @if !SUBGROUPS
  let lane = 0u;
  // @end
  let N4 = dims[2];
  // @include "quantized_columns.wgsl"
  let place = placeOf(column);
  let row0 = group.y * ROWS;
  let blocks = dims[4];
  let runBlocks = dims[5]; // a run of blocks has one scale
  let first = lane & ~7u; // of the 8 lanes that load x together
  // @if SPLIT
  let slice = thread.y;
  // @else
  let slice = 0u;
  // @end
  prepare(thread.y * LANES + thread.x, lane, column);
  var sums: array<vec4<f32>, ROWS>;
  // @if NORM
  var squares: array<f32, ROWS>;
  // @end

  for (var run = slice; run * runBlocks < blocks; run += SLICES) {
    var t = array<vec4<f32>, ROWS>(); // without a value naga zeroes it before the loop only
    var total = array<f32, ROWS>();
    let end = min((run + 1u) * runBlocks, blocks);
    for (var block = run * runBlocks; block < end; block++) {
      let whole = block * SPAN / 32u; // the block of 32 that it lies in
      let skipped = (block * SPAN / 8u) % 4u;
      // @if SUBGROUPS
      let mine = block * (SPAN / 4u) + lane % (SPAN / 4u);
      var quads: array<vec4<f32>, ROWS>;
      // @if NORM
      let g = normOf(mine);
      // @end
      // @unroll
      for (var r = 0u; r < ROWS; r++) {
        quads[r] = quadOf(min(row0 + r, M - 1u), mine);
        // @if NORM
        squares[r] += dot(quads[r], quads[r]);
        quads[r] *= g;
        // @end
        total[r] += dot(quads[r], vec4<f32>(1.0));
      }
      // @end
      for (var o = 0u; o < SPAN / 8u; o++) {
        let octet = skipped + o;
        let at = place.x + (whole * BITS + octet * LOW / 4u) * place.y;
        var low = codeWords(at) >> vec4<u32>(octet * 8u * LOW % 32u); // 8 codes, or 4 of 8 bits
        var high = vec4<u32>();
        if (HIGH > 0u) {
          let above = place.x + (whole * BITS + LOW + octet * HIGH / 4u) * place.y;
          high = codeWords(above) >> vec4<u32>(octet * 8u * HIGH % 32u);
        }
        // @unroll
        for (var q = 0u; q < 2u; q++) {
          if (LOW == 8u && q == 1u) {
            low = codeWords(at + place.y);
          }
          var v: array<vec4<f32>, ROWS>;
          // @if !SUBGROUPS
          let mine = block * (SPAN / 4u) + 2u * o + q;
          // @if NORM
          let g = normOf(mine);
          // @end
          // @end
          // @unroll
          for (var r = 0u; r < ROWS; r++) {
            // @if SUBGROUPS
            v[r] = subgroupShuffle(quads[r], first + 2u * o + q);
            // @else
            v[r] = quadOf(min(row0 + r, M - 1u), mine);
            // @if NORM
            squares[r] += dot(v[r], v[r]);
            v[r] *= g;
            // @end
            total[r] += dot(v[r], vec4<f32>(1.0));
            // @end
          }
          // @unroll
          for (var i = 0u; i < 4u; i++) {
            var code = (low >> vec4<u32>((4u * q + i) * LOW % 32u)) & vec4<u32>((1u << LOW) - 1u);
            if (HIGH > 0u) {
              code |= ((high >> vec4<u32>((4u * q + i) * HIGH)) & vec4<u32>((1u << HIGH) - 1u)) << vec4<u32>(LOW);
            }
            let value = valueOf(code, block * SPAN + 8u * o + 4u * q + i, column, first);
            // @unroll
            for (var r = 0u; r < ROWS; r++) {
              t[r] += value * v[r][i];
            }
          }
        }
      }
    }
    let scale = scaleOf(run, column);
    let zero = zeroOf(run, column);
    // @if BLOCKS
    let least = leastOf(run, column);
    // @end
    // @unroll
    for (var r = 0u; r < ROWS; r++) {
      // @if SUBGROUPS
      let all = laneSum(total[r], lane);
      // @else
      let all = total[r];
      // @end
      sums[r] += scale * (t[r] - zero * all);
      // @if BLOCKS
      sums[r] -= least * all;
      // @end
    }
  }

  // @if SPLIT
  // @unroll
  for (var r = 0u; r < ROWS; r++) {
    partial[(r * SLICES + thread.y) * LANES + thread.x] = sums[r];
    // @if NORM
    if (thread.x == 0u) {
      partialSquares[r * SLICES + thread.y] = squares[r];
    }
    // @end
  }
  workgroupBarrier();
  if (slice == 0u) {
    // @unroll
    for (var r = 0u; r < ROWS; r++) {
      for (var s = 1u; s < SLICES; s++) {
        sums[r] += partial[(r * SLICES + s) * LANES + thread.x];
        // @if NORM
        squares[r] += partialSquares[r * SLICES + s];
        // @end
      }
    }
  }
  // @end
  // @if NORM
  // @unroll
  for (var r = 0u; r < ROWS; r++) {
    // @if SUBGROUPS
    squares[r] = laneSum(squares[r], lane);
    // @end
    sums[r] *= inverseSqrt(squares[r] / f32(dims[0]) + EPS);
  }
  // @end
  // @include "quantized_finish.wgsl"
}
