// unfold: y[b, t, c·K + k] = x[b, c, t·STRIDE + k - PADDING], 0 where that is outside; CHANNELS_LAST: x[b, ., c]
//
// x        [B, C, L] f32, CHANNELS_LAST [B, L, C]      y  [B, O, C·K] f32
// grid     a thread an element of y
// traffic  write y, which is K / STRIDE times as large as x: bandwidth-bound
// @optional CHANNELS_LAST
// @include "grid.wgsl"

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
override CHANNELS: u32;
override LENGTH: u32;
override OUTPUTS: u32;
override KERNEL: u32;
override STRIDE: u32;
override PADDING: u32;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let index = flatGroup(group, groups) * 64u + thread;
  if (index >= arrayLength(&y)) {
    return;
  }
  let k = index % KERNEL;
  let c = index / KERNEL % CHANNELS;
  let row = index / (KERNEL * CHANNELS);
  let b = row / OUTPUTS;
  let at = row % OUTPUTS * STRIDE + k - PADDING; // wraps round below 0
  var value = 0.0;
  if (at < LENGTH) {
    // @if CHANNELS_LAST
    value = x[(b * LENGTH + at) * CHANNELS + c];
    // @else
    value = x[(b * CHANNELS + c) * LENGTH + at];
    // @end
  }
  y[index] = value;
}
