// finite_logits: y[i] = 0 for NaN, the largest and the least f32 for what is beyond, else x[i]
//
// x, y     [n] f32 as bits; -1e30 and less stand for -infinity
// grid     [n / BLOCK], 64 threads a workgroup
// traffic  read x, write y: bandwidth-bound
const BLOCK: u32 = 512u;
// @include "grid.wgsl"

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let start = flatGroup(group, groups) * BLOCK;
  let end = min(start + BLOCK, arrayLength(&y));
  for (var i = start + thread; i < end; i += 64u) {
    let bits = x[i];
    let negative = bits >= 0x80000000u;
    let magnitude = bits & 0x7fffffffu;
    let beyond = magnitude >= select(0x7f800000u, 0x7149f2cau, negative); // infinity; 1e30
    let bounded = select(bits, select(0x7f7fffffu, 0xff7fffffu, negative), beyond);
    y[i] = select(bounded, 0u, magnitude > 0x7f800000u);
  }
}
