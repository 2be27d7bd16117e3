// matmul: y[z,m,n] = act(sum_k x[z,m,k] * w[z,k,n] + bias[n]) + residual[z,m,n]
//
// x        [Z, M, K] f32       w  [Z, K, N4 * 4] f32, or 16-bit floats two in a u32; columns past N are never used
// y        [Z, M, N] f32       dims = (K, N, N4)       sums are f32
// grid     [N4 / 32, M / ROWS, Z]: a thread holds ROWS x 4 sums, so each word of w is read once for ROWS rows;
//          SLICES threads share the sum over K of one tile, so that a single row fills a GPU
// traffic  w once, x N/128 times from cache: bandwidth-bound for few rows
const ROWS: u32 = 1; // @const
const SLICES: u32 = 1; // @const
const LANES: u32 = 32;
// @one-of F32 F16 BF16
// @one-of IDENTITY SILU GELU GELU_TANH RELU TANH
// @optional BIAS RESIDUAL K_BY_4 N_BY_4 SPLIT
// @include "floats.wgsl"
// @include "activation.wgsl"

// @if K_BY_4
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
// @else
@group(0) @binding(0) var<storage, read> x: array<f32>;
// @end
// @if F32
@group(0) @binding(1) var<storage, read> w: array<vec4<f32>>;
// @else
@group(0) @binding(1) var<storage, read> w: array<vec2<u32>>;
// @end
@group(0) @binding(2) var<storage, read> dims: array<u32>;
// @if N_BY_4
// @if BIAS
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;
// @end
// @if RESIDUAL
@group(0) @binding(4) var<storage, read> residual: array<vec4<f32>>;
// @end
@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>;
// @else
// @if BIAS
@group(0) @binding(3) var<storage, read> bias: array<f32>;
// @end
// @if RESIDUAL
@group(0) @binding(4) var<storage, read> residual: array<f32>;
// @end
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
// @end
// @if SPLIT
var<workgroup> partial: array<vec4<f32>, ROWS * SLICES * LANES>;
// @end

fn weight(at: u32) -> vec4<f32> {
  // @if F16
  let words = w[at];
  return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
  // @end
  // @if BF16
  let words = w[at];
  return vec4<f32>(unpackBf16(words.x), unpackBf16(words.y));
  // @end
  // @if F32
  return w[at];
  // @end
}

@compute @workgroup_size(LANES, SLICES)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_id) thread: vec3<u32>,
) {
  let K = dims[0];
  let N = dims[1];
  let N4 = dims[2];
  // @if N_BY_4
  let M = arrayLength(&y) / N4 / groups.z;
  // @else
  let M = arrayLength(&y) / N / groups.z;
  // @end
  let column = min(group.x * LANES + thread.x, N4 - 1u); // lanes past the end repeat the last column and do not store
  let row0 = group.y * ROWS;
  let w0 = group.z * K * N4 + column;
  var sums: array<vec4<f32>, ROWS>;

  // @if K_BY_4
  let K4 = K / 4u;
  for (var k4 = thread.y; k4 < K4; k4 += SLICES) {
    let at = w0 + 4u * k4 * N4;
    let wa = weight(at);
    let wb = weight(at + N4);
    let wc = weight(at + 2u * N4);
    let wd = weight(at + 3u * N4);
    for (var r = 0u; r < ROWS; r++) {
      let v = x[(group.z * M + min(row0 + r, M - 1u)) * K4 + k4];
      sums[r] += wa * v.x + wb * v.y + wc * v.z + wd * v.w;
    }
  }
  // @else
  for (var k = thread.y; k < K; k += SLICES) {
    let wk = weight(w0 + k * N4);
    for (var r = 0u; r < ROWS; r++) {
      sums[r] += wk * x[(group.z * M + min(row0 + r, M - 1u)) * K + k];
    }
  }
  // @end

  // @if SPLIT
  for (var r = 0u; r < ROWS; r++) {
    partial[(r * SLICES + thread.y) * LANES + thread.x] = sums[r];
  }
  workgroupBarrier();
  if (thread.y > 0u) {
    return;
  }
  for (var r = 0u; r < ROWS; r++) {
    for (var s = 1u; s < SLICES; s++) {
      sums[r] += partial[(r * SLICES + s) * LANES + thread.x];
    }
  }
  // @end

  if (group.x * LANES + thread.x < N4) {
    for (var r = 0u; r < ROWS; r++) {
      if (row0 + r < M) {
        store(group.z * M + row0 + r, column, N, sums[r]);
      }
    }
  }
}

// @if N_BY_4
fn store(row: u32, column: u32, N: u32, sum: vec4<f32>) {
  var value = sum;
  // @if BIAS
  value += bias[column];
  // @end
  value = activate4(value);
  // @if RESIDUAL
  value += residual[row * (N / 4u) + column];
  // @end
  y[row * (N / 4u) + column] = value;
}
// @else
fn store(row: u32, column: u32, N: u32, sum: vec4<f32>) {
  for (var c = 0u; c < min(4u, N - 4u * column); c++) {
    let n = 4u * column + c;
    var value = sum[c];
    // @if BIAS
    value += bias[n];
    // @end
    value = activate(value);
    // @if RESIDUAL
    value += residual[row * N + n];
    // @end
    y[row * N + n] = value;
  }
}
// @end
