// unary: y[i] = act(x[i]), or with CAP y[i] = CAP_AT tanh(x[i] / CAP_AT)
//
// x, y     [n / 4] vec4 f32: the last may reach into the padding that every buffer has
// grid     [n / 4 / WG / STEPS]: a thread STEPS vec4s: one on a GPU, more on a CPU, where a workgroup is dear
// traffic  read x, write y: bandwidth-bound
const WG: u32 = 64; // @const 64 8
const STEPS: u32 = 1; // @const 1 64
// @never WG=8 STEPS=1
// @never WG=64 STEPS=64
// @one-of SILU GELU GELU_TANH QUICK_GELU RELU TANH SIGMOID CAP
// @include "grid.wgsl"
// @include "quads.wgsl"
// @include "activation.wgsl"
// @if CAP
override CAP_AT: f32;
// @end

@group(0) @binding(0) var<storage, read> x: array<quad>;
@group(0) @binding(1) var<storage, read_write> y: array<quad>;

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let start = flatGroup(group, groups) * WG * STEPS;
  let end = min(start + WG * STEPS, arrayLength(&y));
  for (var i = start + thread; i < end; i += WG) {
    y[i] = toQuad(activate4(fromQuad(x[i])));
  }
}
