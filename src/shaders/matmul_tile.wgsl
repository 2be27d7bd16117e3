// matmul_tile: matmul of many rows for GPUs: a workgroup brings tiles of x and w into its memory and multiplies them there.
//
// x        [M, K] f32       w  [K, N]       y  [M, N] f32       as in matmul and include/linear.wgsl; K divides by 4
// grid     [N / 64, M / 64]: 16 x 16 threads hold 4 x 4 sums each; with GATED half of the columns are of each half, and
//          the threads of the second half hand their sums over
// traffic  x N/64 times, w M/64 times
// @one-of F32 F16 BF16
// @optional BIAS RESIDUAL N_BY_4 GATED
// @include "linear.wgsl"
const SIDE: u32 = 16; // threads, and the depth of a tile along K
const ROWS: u32 = 4;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;

var<workgroup> tiles: array<vec4<f32>, 2 * SIDE * SIDE>; // of x [64 rows][4 along K]; of w [16 along K][16 columns of 4]

@compute @workgroup_size(SIDE, SIDE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) thread: vec3<u32>) {
  let K = dims[0];
  let K4 = K / 4u;
  let N4 = dims[2];
  let M = arrayLength(&x) / K4;
  let flat = thread.y * SIDE + thread.x;
  // @if GATED
  let columns = N4 / 2u; // of each half
  let column = group.x * (SIDE / 2u) + thread.x % (SIDE / 2u);
  let source = min(column, columns - 1u) + select(0u, columns, thread.x >= SIDE / 2u);
  // @else
  let columns = N4;
  let column = group.x * SIDE + thread.x;
  let source = min(column, columns - 1u);
  // @end
  let place = columnOf(source);
  let row0 = group.y * SIDE * ROWS;
  let xFrom = min(row0 + flat / 4u, M - 1u) * K4;
  var sums: array<vec4<f32>, ROWS>;

  for (var k = 0u; k < K; k += SIDE) {
    // K divides by 4, so a vec4 of x is whole or beyond the end
    let k4 = k / 4u + flat % 4u;
    tiles[flat] = select(vec4<f32>(), x[xFrom + min(k4, K4 - 1u)], k4 < K4);
    let kw = k + thread.y;
    tiles[SIDE * SIDE + flat] = select(vec4<f32>(), weight(place.x + min(kw, K - 1u) * place.y), kw < K);
    workgroupBarrier();
    for (var q = 0u; q < SIDE / 4u; q++) {
      let at = SIDE * SIDE + 4u * q * SIDE + thread.x;
      let four = mat4x4<f32>(tiles[at], tiles[at + SIDE], tiles[at + 2u * SIDE], tiles[at + 3u * SIDE]);
      for (var r = 0u; r < ROWS; r++) {
        sums[r] += four * tiles[(thread.y * ROWS + r) * 4u + q];
      }
    }
    workgroupBarrier();
  }

  // @if GATED
  if (thread.x >= SIDE / 2u) {
    for (var r = 0u; r < ROWS; r++) {
      tiles[(thread.y * ROWS + r) * (SIDE / 2u) + thread.x - SIDE / 2u] = sums[r];
    }
  }
  workgroupBarrier();
  if (thread.x >= SIDE / 2u) {
    return;
  }
  // @end
  let y0 = targetOf(M, column);
  for (var r = 0u; r < ROWS; r++) {
    let row = row0 + thread.y * ROWS + r;
    if (row < M && column < columns) {
      // @if GATED
      storeGated(y0, row, sums[r], tiles[(thread.y * ROWS + r) * (SIDE / 2u) + thread.x]);
      // @else
      store(y0, row, sums[r]);
      // @end
    }
  }
}
