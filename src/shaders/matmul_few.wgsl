// matmul_few: matmul of up to 4 rows for CPUs, where every load is one per lane and a barrier is dear: eight lanes of a
// subgroup load different numbers of x and hand them round. K divides by 4, and a subgroup has at least 8 lanes.
//
// x        [M, K] f32       w  [K, N]       y  [M, N] f32       norm  [K] f32       as in matmul and include/linear.wgsl
// grid     [N4 / LANES, M / ROWS]: a thread holds ROWS x 4 sums; lanes 0 to 3 load four numbers of row 0, then of row 2,
//          lanes 4 to 7 those of the rows after them; with GATED lanes 0 to 3 hold sums of the first half of the columns,
//          lanes 4 to 7 those of the second, which they hand over at the end
// measured on 2 busy EPYC cores, a core, f16: one row 3.7-4.0 GB/s (matmul 2.8-3.3), four 11 GFLOP/s (6.4). 8 columns a
//          thread, steps of 8 along K and x by vec4 were slower, loads of u64 the same: the loads of w are the limit
// @header
// @one-of SUBGROUPS
// @one-of F32 F16 BF16
// @one-of R1 R2 R4
// @optional BIAS RESIDUAL N_BY_4 NORM GATED
// @include "linear.wgsl"
const LANES: u32 = 32; // @const
override EPS: f32 = 1e-6;
// @if R1
const ROWS: u32 = 1;
// @end
// @if R2
const ROWS: u32 = 2;
// @end
// @if R4
const ROWS: u32 = 4;
// @end

@group(0) @binding(0) var<storage, read> x: array<f32>;
// @if NORM
@group(0) @binding(6) var<storage, read> norm: array<f32>;
// @end

var<private> four: mat4x4<f32>; // rows of w
var<private> sums: array<vec4<f32>, ROWS>;

// Adds to the sums of row r what four numbers of x give.
fn take(r: u32, v: vec4<f32>) {
  sums[r] += four * v;
}

fn firstFour(v: f32) -> vec4<f32> {
  return vec4<f32>(subgroupBroadcast(v, 0u), subgroupBroadcast(v, 1u), subgroupBroadcast(v, 2u), subgroupBroadcast(v, 3u));
}

fn nextFour(v: f32) -> vec4<f32> {
  return vec4<f32>(subgroupBroadcast(v, 4u), subgroupBroadcast(v, 5u), subgroupBroadcast(v, 6u), subgroupBroadcast(v, 7u));
}

// The sum of `squares` over the lanes whose row it is, each of which has as many copies as there are eights of lanes.
fn rowSum(squares: f32, mine: bool, lanes: f32) -> f32 {
  return subgroupAdd(select(0.0, squares, mine)) / lanes;
}

@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let K = dims[0];
  let N4 = dims[2];
  let M = arrayLength(&x) / K;
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
  // @if R1
  let second = 0u;
  // @else
  let second = lane / 4u % 2u;
  // @end
  let a = min(row0 + second, M - 1u) * K + lane % 4u;
  // @if R4
  let b = min(row0 + 2u + second, M - 1u) * K + lane % 4u;
  // @end
  // @if NORM
  var squares = vec2<f32>(); // of what the lane loads
  // @end

  for (var k = 0u; k < K; k += 4u) {
    four = weights(place.x + k * place.y, place.y);
    var xa = x[a + k];
    // @if R4
    var xb = x[b + k];
    // @end
    // @if NORM
    let g = norm[k + lane % 4u];
    squares.x += xa * xa;
    xa *= g;
    // @if R4
    squares.y += xb * xb;
    xb *= g;
    // @end
    // @end
    take(0u, firstFour(xa));
    // @if !R1
    take(1u, nextFour(xa));
    // @end
    // @if R4
    take(2u, firstFour(xb));
    take(3u, nextFour(xb));
    // @end
  }

  // @if NORM
  let lanes = subgroupAdd(1.0) / 4.0;
  var totals: array<f32, ROWS>;
  // @if R1
  totals[0] = rowSum(squares.x, true, lanes);
  // @else
  totals[0] = rowSum(squares.x, second == 0u, lanes / 2.0);
  totals[1] = rowSum(squares.x, second == 1u, lanes / 2.0);
  // @end
  // @if R4
  totals[2] = rowSum(squares.y, second == 0u, lanes / 2.0);
  totals[3] = rowSum(squares.y, second == 1u, lanes / 2.0);
  // @end
  // @end
  let y0 = targetOf(M, own);
  for (var r = 0u; r < ROWS; r++) {
    // @if NORM
    let sum = sums[r] * inverseSqrt(totals[r] / f32(K) + EPS);
    // @else
    let sum = sums[r];
    // @end
    // @if GATED
    let up = subgroupShuffleXor(sum, 4u);
    if (row0 + r < M && own < columns && isGate) {
      storeGated(y0, row0 + r, sum, up);
    }
    // @else
    if (row0 + r < M && own < columns) {
      store(y0, row0 + r, sum);
    }
    // @end
  }
}
