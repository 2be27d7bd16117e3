// occurrence_penalty: y[i] = x[i] - penalties[0] * counts[i] - (penalties[1] where counts[i] > 0)
//
// x, y     [B, V] f32      counts [B, V] u32      penalties (frequency, presence) f32
// grid     [B * V / BLOCK], 64 threads a workgroup
// traffic  read x and counts, write y: bandwidth-bound
const BLOCK: u32 = 512u;
// @include "grid.wgsl"

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> counts: array<u32>;
@group(0) @binding(2) var<storage, read> penalties: array<f32>;
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
    let count = counts[i];
    y[i] = x[i] - (penalties[0] * f32(count) + select(0.0, penalties[1], count > 0u));
  }
}
