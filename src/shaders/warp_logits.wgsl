// warp_logits: y[r,i] = logits[r,i] / temperature where top k, top p and min p keep token i, in that order, else -1e30
//
// logits   [B, n] f32 as bits; NaN counts as -infinity      params [B or 1, 8] u32 (sampling.wgsl)
// width    n elements, bound for their number             y [B, n] f32
// grid     [B]: one workgroup a row, each thread strides n by WG
// traffic  reads a row twice, and four to eight times more for each of top k and top p; writes it once
const WG: u32 = 64; // @const 64 256 512
// @include "floats.wgsl"
// @include "grid.wgsl"
// @include "sampling.wgsl"

@group(0) @binding(0) var<storage, read> logits: array<u32>;
@group(0) @binding(1) var<storage, read> params: array<u32>;
@group(0) @binding(2) var<storage, read> width: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let n = arrayLength(&width);
  let row = flatGroup(group, groups);
  if (row >= arrayLength(&y) / n) {
    return;
  }
  let kept = keptOf(row, n, thread);
  for (var i = thread; i < n; i += WG) {
    let key = keyOf(logits[row * n + i]);
    y[row * n + i] = select(NEG, valueOf(key) / kept.temperature, key >= kept.least);
  }
}
