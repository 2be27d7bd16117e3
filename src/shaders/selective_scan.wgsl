// selective_scan: h = exp(d A) h + d B u, y = C h + D u with d = softplus(dt) and A = -exp(aLog); GATED: y silu(z)
//
// u, dt    [T, I] f32      aLog  [I, N] f32      bc  [T, W] f32: its last 2 N columns are B and C      d  [I] f32
// states   [B, I, N] f32: h of each sequence, replaced      z  [T, V] f32: its last I columns are read
// cuSeqlens  [B + 1] u32      y  [T, I] f32
// grid     a thread a channel of a sequence, which goes from token to token and keeps h in registers
// paper    https://arxiv.org/abs/2312.00752
const N: u32 = 16u; // @const
// @optional GATED
// @include "grid.wgsl"
// @include "activations.wgsl"

@group(0) @binding(0) var<storage, read> u: array<f32>;
@group(0) @binding(1) var<storage, read> dt: array<f32>;
@group(0) @binding(2) var<storage, read> aLog: array<f32>;
@group(0) @binding(3) var<storage, read> bc: array<f32>;
@group(0) @binding(4) var<storage, read> d: array<f32>;
@group(0) @binding(5) var<storage, read_write> states: array<f32>;
@group(0) @binding(6) var<storage, read> cuSeqlens: array<u32>;
@group(0) @binding(7) var<storage, read_write> y: array<f32>;
// @if GATED
@group(0) @binding(8) var<storage, read> z: array<f32>;
// @end

// log(1 + exp(x)): log() of numbers near 1 is coarse on GPUs, 2 atanh(e / (2 + e)) by its series is not.
fn softplus(x: f32) -> f32 {
  let e = exp(-abs(x));
  let s = e / (2.0 + e);
  let q = s * s;
  let series = 1.0 + q * (1.0 / 3.0 + q * (0.2 + q * (1.0 / 7.0 + q * (1.0 / 9.0 + q * (1.0 / 11.0 + q / 13.0)))));
  return max(x, 0.0) + 2.0 * s * series;
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let I = arrayLength(&d);
  let index = flatGroup(group, groups) * 64u + thread;
  if (index >= arrayLength(&states) / N) {
    return;
  }
  let i = index % I;
  let b = index / I;
  let T = arrayLength(&u) / I;
  let W = arrayLength(&bc) / T;
  var h: array<f32, N>;
  var a: array<f32, N>;
  for (var n = 0u; n < N; n++) {
    h[n] = states[index * N + n];
    a[n] = -exp(aLog[i * N + n]);
  }
  for (var t = cuSeqlens[b]; t < cuSeqlens[b + 1u]; t++) {
    let x = u[t * I + i];
    let step = softplus(dt[t * I + i]);
    let first = (t + 1u) * W - 2u * N;
    var sum = d[i] * x;
    for (var n = 0u; n < N; n++) {
      h[n] = exp(step * a[n]) * h[n] + step * bc[first + n] * x;
      sum += bc[first + N + n] * h[n];
    }
    // @if GATED
    let V = arrayLength(&z) / T;
    sum *= silu(z[(t + 1u) * V - I + i]);
    // @end
    y[t * I + i] = sum;
  }
  for (var n = 0u; n < N; n++) {
    states[index * N + n] = h[n];
  }
}
