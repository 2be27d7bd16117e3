// matmul_columns: matmul of many rows for CPUs without subgroups, where every load is one per lane: a tile of 8 rows and 8
// columns a thread needs the fewest loads that registers allow. A workgroup turns its rows of x (SHARED), so that eight rows
// are two loads of four, or loads two of K in each row where it has no room for that (APART).
//
// x        [M, K] f32, K divides by 4, and with SHARED is at most DEPTH
// w        [K, N]       y  [M, N] f32       as in matmul and include/linear.wgsl
// grid     [N4 / 2 / LANES, M / 8]: a thread holds 8 x 8 sums; with GATED of 4 columns of each half
// measured on 2 busy EPYC cores, a core, f32: SHARED 9.4 GFLOP/s at K = 1024, APART 5.7 at 3072, where x turned by a kernel
//          before made 6.8; four of K in each row 4.5; SHARED in parts 4.7, as in a loop with barriers all stays in memory
const LANES: u32 = 32;
const ROWS: u32 = 8;
const DEPTH: u32 = 512; // @const 512 1024
// @one-of F32 F16 BF16
// @one-of SHARED APART
// @optional BIAS RESIDUAL N_BY_4 GATED
// @never APART DEPTH=1024
// @include "linear.wgsl"

// @if SHARED
@group(0) @binding(0) var<storage, read> x: array<quad>;
// @else
@group(0) @binding(0) var<storage, read> x: array<pair>;
// @end
// @if SHARED
var<workgroup> turned: array<quad, 2 * DEPTH>; // [K][8 rows]
// @end

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let K = dims[0];
  let N4 = dims[2];
  // @if SHARED
  let M = arrayLength(&x) / (K / 4u);
  // @else
  let M = arrayLength(&x) / (K / 2u);
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
  // @if INT64
  for (var i = thread; i < K; i += LANES) { // four of K in two rows
    let r = i % 4u;
    let k4 = i / 4u;
    let u = bitcast<vec4<u32>>(fromQuad(x[min(row0 + 2u * r, M - 1u) * (K / 4u) + k4]));
    let v = bitcast<vec4<u32>>(fromQuad(x[min(row0 + 2u * r + 1u, M - 1u) * (K / 4u) + k4]));
    let at = 8u * k4 + r / 2u;
    turned[at][r % 2u] = pairOf(vec2<u32>(u.x, v.x));
    turned[at + 2u][r % 2u] = pairOf(vec2<u32>(u.y, v.y));
    turned[at + 4u][r % 2u] = pairOf(vec2<u32>(u.z, v.z));
    turned[at + 6u][r % 2u] = pairOf(vec2<u32>(u.w, v.w));
  }
  // @else
  for (var i = thread; i < 2u * K; i += LANES) {
    let r = i % ROWS;
    let k4 = i / ROWS;
    let v = x[min(row0 + r, M - 1u) * (K / 4u) + k4];
    let at = 8u * k4 + r / 4u;
    turned[at][r % 4u] = v.x;
    turned[at + 2u][r % 4u] = v.y;
    turned[at + 4u][r % 4u] = v.z;
    turned[at + 6u][r % 4u] = v.w;
  }
  // @end
  workgroupBarrier();
  // @else
  var rows: array<u32, ROWS>;
  for (var r = 0u; r < ROWS; r++) {
    rows[r] = min(row0 + r, M - 1u) * (K / 2u);
  }
  // @end
  var lefts: array<vec4<f32>, ROWS>;
  var rights: array<vec4<f32>, ROWS>;

  var atLeft = leftPlace.x;
  var atRight = rightPlace.x;
  // @if SHARED
  for (var k = 0u; k < K; k++) {
    let a = weight(atLeft);
    let b = weight(atRight);
    atLeft += leftPlace.y;
    atRight += rightPlace.y;
    let u = fromQuad(turned[2u * k]);
    let v = fromQuad(turned[2u * k + 1u]);
    for (var r = 0u; r < 4u; r++) {
      lefts[r] += a * u[r];
      rights[r] += b * u[r];
      lefts[r + 4u] += a * v[r];
      rights[r + 4u] += b * v[r];
    }
  }
  // @else
  for (var k = 0u; k < K / 2u; k++) {
    let a = weight(atLeft);
    let b = weight(atRight);
    let c = weight(atLeft + leftPlace.y);
    let d = weight(atRight + rightPlace.y);
    atLeft += 2u * leftPlace.y;
    atRight += 2u * rightPlace.y;
    for (var r = 0u; r < ROWS; r++) {
      let v = fromPair(x[rows[r] + k]);
      lefts[r] += a * v.x + c * v.y;
      rights[r] += b * v.x + d * v.y;
    }
  }
  // @end

  let y0 = targetOf(M, first);
  // @if !GATED
  let y1 = targetOf(M, first + 1u);
  // @end
  for (var r = 0u; r < ROWS; r++) {
    if (row0 + r < M && first < columns) {
      // @if GATED
      storeGated(y0, row0 + r, lefts[r], rights[r]);
      // @else
      store(y0, row0 + r, lefts[r]);
      if (first + 1u < columns) {
        store(y1, row0 + r, rights[r]);
      }
      // @end
    }
  }
}
