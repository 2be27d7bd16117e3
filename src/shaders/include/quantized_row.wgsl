// quantized_row: the product of one row by codes for CPUs, whatever a code stands for, and what stands around it, as
// quantized.wgsl has both: a thread holds the sums of TILES x 4 columns, so that what eight lanes load of x and hand round
// serves TILES loads of w. The shader has
//   prepare(lane, columns)                what it needs to know of the columns by 4 of the thread
//   unitsOf(lane)                         factors of the four numbers of x that a lane loads of every 32
//   valuesOf(low, high, j, first)         what the codes of input j of eight stand for, times 1 / its factor
//   scaled(sum, all, run, tile, column)   the sum over a run as it counts; all is the sum of x itself
//
// x        [K / 4] vec4<f32>          w, groups, dims, y  as in quantized.wgsl          norm  [K / 4] vec4<f32>
// grid     [N4 / 8 / TILES]: eight threads; with GATED threads 0 to 3 hold sums of the first half of the columns, 4 to 7
//          those of the second
// traffic  w once, x once a workgroup, from cache: bandwidth-bound
override EPS: f32 = 1e-6;
const TILES: u32 = 2u;
const LANES: u32 = 8u;
// @include "row_bindings.wgsl"
// @include "quantized_store.wgsl"
// @include "codes.wgsl"
// @include "lane_sum.wgsl"

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
  let units = unitsOf(lane);
  // @include "row_columns.wgsl"
  prepare(lane, column);
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
      var own = select(vec4<f32>(), fromQuad(x[within]), mine < quads);
      // @if NORM
      squares += dot(own, own);
      own *= fromQuad(norm[within]);
      // @end
      total += dot(own, vec4<f32>(1.0));
      own *= units;
      for (var o = 0u; o < SPAN / 8u; o++) {
        let octet = skipped + o;
        let row = whole * BITS + octet * LOW / 4u;
        var low: array<vec4<u32>, TILES>;
        var high: array<vec4<u32>, TILES>;
        // @unroll
        for (var tile = 0u; tile < TILES; tile++) {
          low[tile] = codeWords(place[tile].x + row * place[tile].y) >> vec4<u32>(octet * 8u * LOW % 32u); // 8 codes, or 4 of 8 bits
          if (HIGH > 0u) {
            let above = whole * BITS + LOW + octet * HIGH / 4u;
            high[tile] = codeWords(place[tile].x + above * place[tile].y) >> vec4<u32>(octet * 8u * HIGH % 32u);
          }
        }
        // @unroll
        for (var q = 0u; q < 2u; q++) {
          let v = subgroupShuffle(own, first + 2u * o + q);
          // @unroll
          for (var tile = 0u; tile < TILES; tile++) {
            if (LOW == 8u && q == 1u) {
              low[tile] = codeWords(place[tile].x + (row + 1u) * place[tile].y);
            }
            // @unroll
            for (var i = 0u; i < 4u; i++) {
              t[tile] += valuesOf(low[tile], high[tile], 4u * q + i, first) * v[i];
            }
          }
        }
      }
    }
    let all = laneSum(total, lane);
    // @unroll
    for (var tile = 0u; tile < TILES; tile++) {
      sums[tile] += scaled(t[tile], all, run, tile, column[tile]);
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
