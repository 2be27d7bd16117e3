// guide_logits: y[i] = u[i] + scale * (x[i] - u[i]); -1e30 where either is
//
// x, u, y  [n] f32      scale [1] f32
// grid     [n / BLOCK], 64 threads a workgroup
// traffic  read x and u, write y: bandwidth-bound
// paper    https://arxiv.org/abs/2306.17806
const BLOCK: u32 = 512u;
// @include "floats.wgsl"
// @include "grid.wgsl"

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> u: array<f32>;
@group(0) @binding(2) var<storage, read> scale: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let start = flatGroup(group, groups) * BLOCK;
  let end = min(start + BLOCK, arrayLength(&y));
  for (var i = start + thread; i < end; i += 64u) {
    let guided = u[i] + scale[0] * (x[i] - u[i]);
    y[i] = select(guided, NEG, x[i] <= NEG || u[i] <= NEG);
  }
}
