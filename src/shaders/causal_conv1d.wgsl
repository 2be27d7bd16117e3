// causal_conv1d: y[t,i] = silu(bias[i] + sum_k weight[i,k] x[t - K + 1 + k, i]); what lies before a sequence is in states
//
// x        [T, W] f32, of which the first I columns are read      weight  [I, K] f32      bias  [I] f32
// states   [B, I, K] f32: the last K inputs of each sequence, replaced      y  [T, I] f32      cuSeqlens  [B + 1] u32
// grid     a thread a channel of a sequence, which goes from token to token: neighbours read neighbours
// paper    https://arxiv.org/abs/2312.00752
const K: u32 = 4u; // @const
// @optional BIAS
// @include "grid.wgsl"
// @include "activations.wgsl"

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read_write> states: array<f32>;
@group(0) @binding(3) var<storage, read> cuSeqlens: array<u32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
// @if BIAS
@group(0) @binding(5) var<storage, read> bias: array<f32>;
// @end

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let I = arrayLength(&weight) / K;
  let index = flatGroup(group, groups) * 64u + thread;
  if (index >= arrayLength(&states) / K) {
    return;
  }
  let i = index % I;
  let b = index / I;
  let W = arrayLength(&x) / (arrayLength(&y) / I);
  var window: array<f32, K>;
  var w: array<f32, K>;
  for (var k = 0u; k < K; k++) {
    window[k] = states[index * K + k];
    w[k] = weight[i * K + k];
  }
  for (var t = cuSeqlens[b]; t < cuSeqlens[b + 1u]; t++) {
    var sum = 0.0;
    // @if BIAS
    sum = bias[i];
    // @end
    for (var k = 0u; k + 1u < K; k++) {
      window[k] = window[k + 1u];
      sum += w[k] * window[k];
    }
    window[K - 1u] = x[t * W + i];
    y[t * I + i] = silu(sum + w[K - 1u] * window[K - 1u]);
  }
  for (var k = 0u; k < K; k++) {
    states[index * K + k] = window[k];
  }
}
