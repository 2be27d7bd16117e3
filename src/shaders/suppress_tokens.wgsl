// suppress_tokens: y[b, t] = -1e30 for the tokens t of ids while step < until, else logits[b, t]
//
// logits, y  [B, V] f32      ids  [n] u32      limits  (V, until) u32      step  [1] u32
// grid       a thread an element
// @include "floats.wgsl"
// @include "grid.wgsl"
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(2) var<storage, read> limits: array<u32>;
@group(0) @binding(3) var<storage, read> step: array<u32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let i = flatGroup(group, groups) * 64u + thread;
  if (i >= arrayLength(&y)) {
    return;
  }
  let token = i % limits[0];
  var value = logits[i];
  if (step[0] < limits[1]) {
    for (var k = 0u; k < arrayLength(&ids); k++) {
      value = select(value, NEG, ids[k] == token);
    }
  }
  y[i] = value;
}
