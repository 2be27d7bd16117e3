// matmul_many: matmul of many rows for CPUs, where every load is one per lane and a barrier is dear: eight lanes of a
// subgroup load vec4s of different rows of x and hand them round. K divides by 4, and a subgroup has at least 8 lanes.
//
// x        [M, K] f32       w  [K, N]       y  [M, N] f32       as in matmul and include/linear.wgsl
// grid     [N4 / LANES, M / ROWS]: a thread holds ROWS x 4 sums; with GATED four lanes of eight those of the first half
//          of the columns, the others those of the second, which they hand over at the end
// measured on 2 busy EPYC cores, a core: 16 rows f16 20-22 GFLOP/s, f32 19; in words of 32 bits 17-20
//          and 13-16, then with one of K at a time 16 and 15, with 24 or 32 rows 17 and 14 (registers spill), without
//          broadcasts 4.8 and 3.3; with a residual 18 and 16 where the loop at the end is unrolled
// @header
// @one-of SUBGROUPS
// @one-of F32 F16 BF16
// @one-of R8 R16
// @optional BIAS RESIDUAL N_BY_4 GATED
// @include "linear.wgsl"
const LANES: u32 = 32; // @const
// @if R8
const ROWS: u32 = 8;
// @else
const ROWS: u32 = 16;
// @end

@group(0) @binding(0) var<storage, read> x: array<quad>;

var<private> four: mat4x4<f32>; // rows of w
var<private> sums: array<vec4<f32>, ROWS>;

// Adds to the sums of row r what four numbers of x give.
fn take(r: u32, v: vec4<f32>) {
  sums[r] += four * v;
}

@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let K4 = dims[0] / 4u;
  let N4 = dims[2];
  let M = arrayLength(&x) / K4;
  // @if GATED
  let columns = N4 / 2u; // of each half
  // @else
  let columns = N4;
  // @end
  // lanes past the end repeat the last column and do not store
  // @if GATED
  let own = (group.x * LANES + thread) / 8u * 4u + lane % 4u;
  let isGate = lane % 8u < 4u;
  let column = min(own, columns - 1u) + select(columns, 0u, isGate);
  // @else
  let own = group.x * LANES + thread;
  let column = min(own, columns - 1u);
  // @end
  let place = columnOf(column);
  let row0 = group.y * ROWS;
  let a = min(row0 + lane % 8u, M - 1u) * K4;
  // @if R16
  let b = min(row0 + 8u + lane % 8u, M - 1u) * K4;
  // @end

  for (var k4 = 0u; k4 < K4; k4++) {
    four = weights(place.x + 4u * k4 * place.y, place.y);
    let xa = fromQuad(x[a + k4]);
    take(0u, subgroupBroadcast(xa, 0u));
    take(1u, subgroupBroadcast(xa, 1u));
    take(2u, subgroupBroadcast(xa, 2u));
    take(3u, subgroupBroadcast(xa, 3u));
    take(4u, subgroupBroadcast(xa, 4u));
    take(5u, subgroupBroadcast(xa, 5u));
    take(6u, subgroupBroadcast(xa, 6u));
    take(7u, subgroupBroadcast(xa, 7u));
    // @if R16
    let xb = fromQuad(x[b + k4]);
    take(8u, subgroupBroadcast(xb, 0u));
    take(9u, subgroupBroadcast(xb, 1u));
    take(10u, subgroupBroadcast(xb, 2u));
    take(11u, subgroupBroadcast(xb, 3u));
    take(12u, subgroupBroadcast(xb, 4u));
    take(13u, subgroupBroadcast(xb, 5u));
    take(14u, subgroupBroadcast(xb, 6u));
    take(15u, subgroupBroadcast(xb, 7u));
    // @end
  }

  let y0 = targetOf(M, own);
  // 1, but the compiler must not know: it would unroll this loop, and then spill the sums in the one above
  let one = min(1u, arrayLength(&y));
  for (var r = 0u; r < min(ROWS, M - row0); r += one) {
    // @if GATED
    let up = subgroupShuffleXor(sums[r], 4u);
    if (own < columns && isGate) {
      storeGated(y0, row0 + r, sums[r], up);
    }
    // @else
    if (own < columns) {
      store(y0, row0 + r, sums[r]);
    }
    // @end
  }
}
