// matmul: y[z,m,n] = sum_k x[z,m,k] * w[z,k,n], and around it what include/linear.wgsl says; with NORM x is first
// RMS-normed: x[m,k] * rsqrt(mean_k(x[m,k]^2) + EPS) * norm[k], whose scale of a row is found beside the sums
//
// x        [Z, M, K] f32       w  [Z, K, N]       y  [Z, M, N] f32       norm  [K] f32       sums are f32
// grid     [N4 / LANES, M / ROWS, Z]: a thread holds ROWS x 4 sums, so each word of w is read once for ROWS rows;
//          SLICES threads share the sum over K of one tile, so that a single row fills a GPU
// traffic  w once, x N/128 times from cache: bandwidth-bound for few rows
const ROWS: u32 = 1; // @const
const SLICES: u32 = 1; // @const
const LANES: u32 = 32;
override EPS: f32 = 1e-6;
// @one-of F32 F16 BF16
// @optional BIAS RESIDUAL K_BY_4 N_BY_4 SPLIT NORM GATED
// @include "linear.wgsl"

// @if K_BY_4
@group(0) @binding(0) var<storage, read> x: array<quad>;
// @if NORM
@group(0) @binding(6) var<storage, read> norm: array<quad>;
// @end
// @else
@group(0) @binding(0) var<storage, read> x: array<f32>;
// @if NORM
@group(0) @binding(6) var<storage, read> norm: array<f32>;
// @end
// @end
// @if SPLIT
var<workgroup> partial: array<vec4<f32>, ROWS * SLICES * LANES>;
// @if GATED
var<workgroup> partialUps: array<vec4<f32>, ROWS * SLICES * LANES>;
// @end
// @if NORM
var<workgroup> partialSquares: array<f32, ROWS * SLICES>;
// @end
// @end

@compute @workgroup_size(LANES, SLICES)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_id) thread: vec3<u32>,
) {
  let K = dims[0];
  let N4 = dims[2];
  // @if GATED
  let columns = N4 / 2u; // of each half
  // @else
  let columns = N4;
  // @end
  let column = min(group.x * LANES + thread.x, columns - 1u); // lanes past the end repeat the last and do not store
  let row0 = group.y * ROWS;
  let place = columnOf(column);
  let w0 = group.z * K * N4 + place.x;
  // @if GATED
  let placeUp = columnOf(columns + column);
  let up0 = group.z * K * N4 + placeUp.x;
  // @end
  var sums: array<vec4<f32>, ROWS>;
  // @if GATED
  var ups: array<vec4<f32>, ROWS>;
  // @end
  // @if NORM
  var squares: array<f32, ROWS>;
  // @end

  // @if K_BY_4
  let K4 = K / 4u;
  let M = arrayLength(&x) / K4 / groups.z;
  for (var k4 = thread.y; k4 < K4; k4 += SLICES) {
    let four = weights(w0 + 4u * k4 * place.y, place.y);
    // @if GATED
    let fourUps = weights(up0 + 4u * k4 * placeUp.y, placeUp.y);
    // @end
    for (var r = 0u; r < ROWS; r++) {
      var v = fromQuad(x[(group.z * M + min(row0 + r, M - 1u)) * K4 + k4]);
      // @if NORM
      squares[r] += dot(v, v);
      v *= fromQuad(norm[k4]);
      // @end
      sums[r] += four * v;
      // @if GATED
      ups[r] += fourUps * v;
      // @end
    }
  }
  // @else
  let M = arrayLength(&x) / K / groups.z;
  for (var k = thread.y; k < K; k += SLICES) {
    let wk = weight(w0 + k * place.y);
    // @if GATED
    let wkUp = weight(up0 + k * placeUp.y);
    // @end
    for (var r = 0u; r < ROWS; r++) {
      var v = x[(group.z * M + min(row0 + r, M - 1u)) * K + k];
      // @if NORM
      squares[r] += v * v;
      v *= norm[k];
      // @end
      sums[r] += wk * v;
      // @if GATED
      ups[r] += wkUp * v;
      // @end
    }
  }
  // @end

  // @if SPLIT
  for (var r = 0u; r < ROWS; r++) {
    partial[(r * SLICES + thread.y) * LANES + thread.x] = sums[r];
    // @if GATED
    partialUps[(r * SLICES + thread.y) * LANES + thread.x] = ups[r];
    // @end
    // @if NORM
    if (thread.x == 0u) {
      partialSquares[r * SLICES + thread.y] = squares[r];
    }
    // @end
  }
  workgroupBarrier();
  if (thread.y > 0u) {
    return;
  }
  for (var r = 0u; r < ROWS; r++) {
    for (var s = 1u; s < SLICES; s++) {
      sums[r] += partial[(r * SLICES + s) * LANES + thread.x];
      // @if GATED
      ups[r] += partialUps[(r * SLICES + s) * LANES + thread.x];
      // @end
      // @if NORM
      squares[r] += partialSquares[r * SLICES + s];
      // @end
    }
  }
  // @end

  if (group.x * LANES + thread.x < columns) {
    let y0 = targetOf(M, column);
    for (var r = 0u; r < ROWS; r++) {
      if (row0 + r < M) {
        // @if NORM
        let scale = inverseSqrt(squares[r] / f32(K) + EPS);
        // @else
        let scale = 1.0;
        // @end
        // @if GATED
        storeGated(y0, group.z * M + row0 + r, scale * sums[r], scale * ups[r]);
        // @else
        store(y0, group.z * M + row0 + r, scale * sums[r]);
        // @end
      }
    }
  }
}
