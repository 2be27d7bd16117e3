// binary: y[i] = a[i] + b[i mod nb], or the product
//
// a, y     [n] f32      b [nb] f32, repeated along the leading dimensions of a
// grid     [n / 256] in vec4 (BY_4), [n / 64] where nb is no multiple of 4
// traffic  read a, write y, b from cache unless it is as large: bandwidth-bound
// @one-of ADD MUL
// @optional BY_4
// @include "elem.wgsl"
// @include "grid.wgsl"

@group(0) @binding(0) var<storage, read> a: array<elem>;
@group(0) @binding(1) var<storage, read> b: array<elem>;
@group(0) @binding(2) var<storage, read_write> y: array<elem>;

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
  let other = b[i % arrayLength(&b)];
  // @if ADD
  y[i] = a[i] + other;
  // @end
  // @if MUL
  y[i] = a[i] * other;
  // @end
}
