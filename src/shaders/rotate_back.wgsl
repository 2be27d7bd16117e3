// rotate_back: y[t] = R(-turns[t]) x[t] over the first 2 HALF dimensions of each head, the others pass
//
// x, y     [T, H, DH] f32      turns [T] u32      table [P, 2, HALF] f32: cosines, then sines
// grid     a thread an element
// @optional INTERLEAVED
override DH: u32 = 64;
override HALF: u32 = 32;
// @include "grid.wgsl"

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> turns: array<u32>;
@group(0) @binding(2) var<storage, read> table: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let i = flatGroup(group, groups) * 64u + thread;
  if (i >= arrayLength(&x)) {
    return;
  }
  let d = i % DH;
  if (d >= 2u * HALF) {
    y[i] = x[i];
    return;
  }
  // @if INTERLEAVED
  let pair = d / 2u;
  let second = (d & 1u) == 1u;
  let other = x[i ^ 1u];
  // @else
  let pair = d % HALF;
  let second = d >= HALF;
  let other = x[select(i + HALF, i - HALF, second)];
  // @end
  let turn = turns[i / (arrayLength(&x) / arrayLength(&turns))];
  let factor = table[0]; // the cosine of 0, times what the table is multiplied by
  let cosine = table[2u * turn * HALF + pair] / factor;
  let sine = table[(2u * turn + 1u) * HALF + pair] / factor;
  y[i] = x[i] * cosine + select(other, -other, second) * sine;
}
