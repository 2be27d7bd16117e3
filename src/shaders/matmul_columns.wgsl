// matmul_columns: matmul of many rows for CPUs without subgroups, where every load is one per lane: a tile of 8 rows and 8
// columns a thread needs the fewest loads that registers allow. x comes transposed, or a workgroup turns its rows itself
// (SHARED), so that eight rows are two loads.
//
// x        [K, M] f32, in vec4 with BY_4, for which M divides by 4; SHARED [M, K], K divides by 4 and is at most DEPTH
// w        [K, N]       y  [M, N] f32       as in matmul and include/linear.wgsl
// grid     [N4 / 2 / LANES, M / 8]: a thread holds 8 x 8 sums; with GATED of 4 columns of each half
// measured on 2 busy EPYC cores, a core, f32: BY_4 10 GFLOP/s, 8.0 with the transposition at K = 768, SHARED 9.4, 9.2 there;
//          with places by a product at each step 6.4, with x in parts and barriers between them 5.8; x by scalars 6.4, not transposed and four of K at a time 3.8
const LANES: u32 = 32;
const ROWS: u32 = 8;
const DEPTH: u32 = 512; // @const 512 1024
// @one-of F32 F16 BF16
// @one-of SHARED BY_4 SCALARS
// @optional BIAS RESIDUAL N_BY_4 GATED
// @include "linear.wgsl"

// @if SCALARS
@group(0) @binding(0) var<storage, read> x: array<f32>;
// @else
@group(0) @binding(0) var<storage, read> x: array<quad>;
// @end
// @if SHARED
var<workgroup> turned: array<vec4<f32>, 2 * DEPTH>; // [K][8 rows]
// @end

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let K = dims[0];
  let N4 = dims[2];
  // @if SCALARS
  let M = arrayLength(&x) / K;
  // @else
  let M = arrayLength(&x) * 4u / K;
  // @end
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
  let leftPlace = columnOf(left);
  let rightPlace = columnOf(right);
  let row0 = group.y * ROWS;
  // @if SHARED
  for (var i = thread; i < 2u * K; i += LANES) {
    let r = i % ROWS;
    let k4 = i / ROWS;
    let v = fromQuad(x[min(row0 + r, M - 1u) * (K / 4u) + k4]);
    let at = 8u * k4 + r / 4u;
    turned[at][r % 4u] = v.x;
    turned[at + 2u][r % 4u] = v.y;
    turned[at + 4u][r % 4u] = v.z;
    turned[at + 6u][r % 4u] = v.w;
  }
  workgroupBarrier();
  // @end
  // @if BY_4
  let upper = row0 / 4u;
  let lower = min(upper + 1u, M / 4u - 1u);
  // @end
  // @if SCALARS
  var rows: array<u32, ROWS>;
  for (var r = 0u; r < ROWS; r++) {
    rows[r] = min(row0 + r, M - 1u);
  }
  // @end
  var lefts: array<vec4<f32>, ROWS>;
  var rights: array<vec4<f32>, ROWS>;

  var atLeft = leftPlace.x;
  var atRight = rightPlace.x;
  for (var k = 0u; k < K; k++) {
    let a = weight(atLeft);
    let b = weight(atRight);
    atLeft += leftPlace.y;
    atRight += rightPlace.y;
    // @if SCALARS
    for (var r = 0u; r < ROWS; r++) {
      let v = x[k * M + rows[r]];
      lefts[r] += a * v;
      rights[r] += b * v;
    }
    // @else
    // @if SHARED
    let u = turned[2u * k];
    let v = turned[2u * k + 1u];
    // @else
    let u = fromQuad(x[k * (M / 4u) + upper]);
    let v = fromQuad(x[k * (M / 4u) + lower]);
    // @end
    for (var r = 0u; r < 4u; r++) {
      lefts[r] += a * u[r];
      rights[r] += b * u[r];
      lefts[r + 4u] += a * v[r];
      rights[r + 4u] += b * v[r];
    }
    // @end
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
