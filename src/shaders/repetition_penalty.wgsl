// repetition_penalty: y[r,i] = logits[r,i] * p where it is below 0, logits[r,i] / p else, for tokens that occurred
//
// logits, y [B, V] f32      counts [B, V] u32      penalty [B or 1] f32: p of each row, or of all
// grid     [B * V / WG], a thread for each token
// traffic  read logits and counts, write y: bandwidth-bound
// paper    https://arxiv.org/abs/1909.05858
const WG: u32 = 64;
// @include "floats.wgsl"
// @include "grid.wgsl"

@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> counts: array<u32>;
@group(0) @binding(2) var<storage, read> penalty: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let i = flatGroup(group, groups) * WG + thread;
  let n = arrayLength(&y);
  if (i >= n) {
    return;
  }
  let x = logits[i];
  let p = penalty[i / (n / arrayLength(&penalty))];
  // what stands for -infinity stays below every logit
  y[i] = select(x, select(x / p, x * p, x < 0.0), counts[i] > 0u && x > NEG);
}
