// unary: y[i] = act(x[i]), or with CAP y[i] = CAP_AT tanh(x[i] / CAP_AT)
//
// x, y     [n / 4] vec4 f32: the last may reach into the padding that every buffer has
// grid     [n / 256 / STEPS]: a thread STEPS vec4s: one on a GPU, more on a CPU, where a workgroup is dear
// traffic  read x, write y: bandwidth-bound
const STEPS: u32 = 1; // @const 1 16
// @one-of SILU GELU GELU_TANH QUICK_GELU RELU TANH SIGMOID CAP
// @include "grid.wgsl"
// @include "activation.wgsl"
// @if CAP
override CAP_AT: f32;
// @end

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let start = flatGroup(group, groups) * 64u * STEPS;
  let end = min(start + 64u * STEPS, arrayLength(&y));
  for (var i = start + thread; i < end; i += 64u) {
    y[i] = activate4(x[i]);
  }
}
