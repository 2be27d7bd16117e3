// matmul_columns: matmul of many rows for CPUs without subgroups, where every load is one per lane: a tile of 8 rows and 8
// columns a thread needs the fewest loads that registers allow. x comes transposed, so that they lie side by side.
//
// x        [K, M] f32       w  [K, N]       y  [M, N] f32       as in matmul and include/linear.wgsl
// grid     [N4 / 2 / LANES, M / 8]: a thread holds 8 x 8 sums; with GATED of 4 columns of each half
// measured on 2 busy EPYC cores, a core, f16: 10 GFLOP/s; x not transposed 6.7, 16 x 4 sums 6.0, matmul 4.8
const LANES: u32 = 32;
const ROWS: u32 = 8;
// @one-of F32 F16 BF16
// @optional BIAS RESIDUAL N_BY_4 GATED
// @include "linear.wgsl"

@group(0) @binding(0) var<storage, read> x: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let K = dims[0];
  let N4 = dims[2];
  let M = arrayLength(&x) / K;
  // @if GATED
  let columns = N4 / 2u; // of each half
  let left = min(group.x * LANES + thread, columns - 1u);
  let right = columns + left;
  let first = group.x * LANES + thread;
  // @else
  let columns = N4;
  let first = 2u * (group.x * LANES + thread);
  let left = min(first, columns - 1u); // columns past the end repeat the last and are not stored
  let right = min(first + 1u, columns - 1u);
  // @end
  let row0 = group.y * ROWS;
  var rows: array<u32, ROWS>;
  for (var r = 0u; r < ROWS; r++) {
    rows[r] = min(row0 + r, M - 1u);
  }
  var lefts: array<vec4<f32>, ROWS>;
  var rights: array<vec4<f32>, ROWS>;

  for (var k = 0u; k < K; k++) {
    let a = weight(k * N4 + left);
    let b = weight(k * N4 + right);
    for (var r = 0u; r < ROWS; r++) {
      let v = x[k * M + rows[r]];
      lefts[r] += a * v;
      rights[r] += b * v;
    }
  }

  for (var r = 0u; r < ROWS; r++) {
    if (row0 + r < M && first < columns) {
      // @if GATED
      storeGated(M, row0 + r, first, lefts[r], rights[r]);
      // @else
      store(M, row0 + r, first, lefts[r]);
      if (first + 1u < columns) {
        store(M, row0 + r, first + 1u, rights[r]);
      }
      // @end
    }
  }
}
