// quantized_row: quantized_matmul of one row for CPUs: y = f(x · W), where a thread holds the sums of TILES x 4 columns, so
// that what eight lanes load of x and hand round serves TILES loads of w
//
// x        [K / 4] vec4<f32>          w, groups, dims, y  as in quantized_matmul          norm  [K / 4] vec4<f32>
// grid     [N4 / 8 / TILES]: eight threads; with GATED threads 0 to 3 hold sums of the first half of the columns, 4 to 7
//          those of the second
// traffic  w once, x once a workgroup, from cache: bandwidth-bound
// measured on 2 busy EPYC cores, a core, 4 bits: 4096² 6.7-7.1 GFLOP/s where quantized_matmul does 3.2-5.9, for the rows of
//          so wide a matrix fall on the same lines of a cache; the same up to 1024 columns; 4 tiles are slower
// @header
override BITS: u32 = 4u; // 2 3 4 5 6 8
override LOW: u32 = (BITS & 8u) | (BITS & 4u) | ((BITS & 2u) >> (BITS & 4u)); // 2 2 4 4 4 8
override SPAN: u32 = 32u; // 32 16
override HIGH: u32 = BITS - LOW;
override EPS: f32 = 1e-6;
const TILES: u32 = 2u;
const LANES: u32 = 8u;
// @one-of SUBGROUPS
// @optional RESIDUAL BLOCKS NORM GATED

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> w: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> groups: array<u32>;
@group(0) @binding(3) var<storage, read> dims: array<u32>;
// @if RESIDUAL
@group(0) @binding(4) var<storage, read> residual: array<f32>;
// @end
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
// @if NORM
@group(0) @binding(6) var<storage, read> norm: array<vec4<f32>>;
// @end
// @include "quantized_store.wgsl"
// @include "integer_groups.wgsl"

// The sum over the lanes that load a span together.
fn laneSum(v: f32, lane: u32) -> f32 {
  let pairs = v + subgroupShuffle(v, lane ^ 1u);
  let fours = pairs + subgroupShuffle(pairs, lane ^ 2u);
  if (SPAN == 32u) {
    return fours + subgroupShuffle(fours, lane ^ 4u);
  }
  return fours;
}

@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_id) thread: vec3<u32>,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let N4 = dims[2];
  let quads = dims[0] / 4u;
  let blocks = dims[4];
  let runBlocks = dims[5]; // a run of blocks has one scale
  let first = lane & ~7u; // of the 8 lanes that load x together
  // @if GATED
  let columns = N4 / 2u; // of each half
  let isGate = thread.x < 4u;
  let wide = 4u;
  let half = select(columns, 0u, isGate);
  // @else
  let columns = N4;
  let wide = 8u;
  let half = 0u;
  // @end
  var column: array<u32, TILES>;
  // @unroll
  for (var tile = 0u; tile < TILES; tile++) {
    // lanes past the end repeat the last column and do not store
    column[tile] = min((group.x * TILES + tile) * wide + thread.x % wide, columns - 1u) + half;
  }
  var sums: array<vec4<f32>, TILES>;
  // @if NORM
  var squares = 0.0;
  // @end

  for (var run = 0u; run * runBlocks < blocks; run++) {
    var t = array<vec4<f32>, TILES>(); // without a value naga zeroes it before the loop only
    var total = 0.0;
    let end = min((run + 1u) * runBlocks, blocks);
    for (var block = run * runBlocks; block < end; block++) {
      let whole = block * SPAN / 32u; // the block of 32 that it lies in
      let skipped = (block * SPAN / 8u) % 4u;
      let mine = block * (SPAN / 4u) + lane % (SPAN / 4u);
      let within = min(mine, quads - 1u);
      var own = select(vec4<f32>(), x[within], mine < quads);
      // @if NORM
      squares += dot(own, own);
      own *= norm[within];
      // @end
      total += dot(own, vec4<f32>(1.0));
      for (var o = 0u; o < SPAN / 8u; o++) {
        let octet = skipped + o;
        let row = (whole * BITS + octet * LOW / 4u) * N4;
        var low: array<vec4<u32>, TILES>;
        var high: array<vec4<u32>, TILES>;
        // @unroll
        for (var tile = 0u; tile < TILES; tile++) {
          low[tile] = w[row + column[tile]] >> vec4<u32>(octet * 8u * LOW % 32u); // 8 codes, or 4 of 8 bits
          if (HIGH > 0u) {
            let above = (whole * BITS + LOW + octet * HIGH / 4u) * N4;
            high[tile] = w[above + column[tile]] >> vec4<u32>(octet * 8u * HIGH % 32u);
          }
        }
        // @unroll
        for (var q = 0u; q < 2u; q++) {
          let v = subgroupShuffle(own, first + 2u * o + q);
          // @unroll
          for (var tile = 0u; tile < TILES; tile++) {
            if (LOW == 8u && q == 1u) {
              low[tile] = w[row + N4 + column[tile]];
            }
            // @unroll
            for (var i = 0u; i < 4u; i++) {
              var code = (low[tile] >> vec4<u32>((4u * q + i) * LOW % 32u)) & vec4<u32>((1u << LOW) - 1u);
              if (HIGH > 0u) {
                code |= ((high[tile] >> vec4<u32>((4u * q + i) * HIGH)) & vec4<u32>((1u << HIGH) - 1u)) << vec4<u32>(LOW);
              }
              t[tile] += vec4<f32>(code) * v[i];
            }
          }
        }
      }
    }
    let all = laneSum(total, lane);
    // @unroll
    for (var tile = 0u; tile < TILES; tile++) {
      sums[tile] += scaleOf(run, column[tile]) * (t[tile] - zeroOf(run, column[tile]) * all);
      // @if BLOCKS
      sums[tile] -= leastOf(run, column[tile]) * all;
      // @end
    }
  }

  // @unroll
  for (var tile = 0u; tile < TILES; tile++) {
    let own = (group.x * TILES + tile) * wide + thread.x % wide;
    var sum = sums[tile];
    // @if NORM
    sum *= inverseSqrt(laneSum(squares, lane) / f32(dims[0]) + EPS);
    // @end
    // @if GATED
    let up = subgroupShuffle(sum, lane ^ 4u);
    if (isGate && own < columns) {
      storeGated(0u, own, sum, up);
    }
    // @else
    if (own < columns) {
      store(1u, 0u, own, sum);
    }
    // @end
  }
}
