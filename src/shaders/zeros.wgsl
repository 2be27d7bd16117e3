// zeros: y[i] = 0
//
// y        [n / 4] vec4 of words: the last may reach into the padding that every buffer has
// grid     [n / 256]: a thread a vec4
// traffic  write y
// @include "grid.wgsl"

@group(0) @binding(0) var<storage, read_write> y: array<vec4<u32>>;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let i = flatGroup(group, groups) * 64u + thread;
  if (i < arrayLength(&y)) {
    y[i] = vec4<u32>(0u);
  }
}
