// force_tokens: at one step y[b,t] = 0 for the tokens t of a list and -1e30 for all others; else x[b,t]
//
// x, y     [B, V] f32      width: V elements, bound for their number      step [1] u32      settings (at, tokens …) u32
// grid     [B * V / BLOCK], 64 threads a workgroup
// traffic  read x, write y: bandwidth-bound
const BLOCK: u32 = 512u;
// @include "floats.wgsl"
// @include "grid.wgsl"

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> width: array<f32>;
@group(0) @binding(2) var<storage, read> settings: array<u32>;
@group(0) @binding(3) var<storage, read> step: array<u32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let start = flatGroup(group, groups) * BLOCK;
  let end = min(start + BLOCK, arrayLength(&y));
  let V = arrayLength(&width);
  let now = step[0] == settings[0];
  for (var i = start + thread; i < end; i += 64u) {
    var forced = NEG;
    for (var j = 1u; now && j < arrayLength(&settings); j++) {
      forced = select(forced, 0.0, settings[j] == i % V);
    }
    y[i] = select(x[i], forced, now);
  }
}
