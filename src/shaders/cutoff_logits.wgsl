// cutoff_logits: y[r,i] = logits[r,i] where its probability is at least a bound, or it is the largest; else -1e30
//
// logits   [B, n] f32 as bits; NaN counts as -infinity      width: n elements, bound for their number      y [B, n] f32
// settings (bound, 1 for eta) f32; eta: the bound is min(bound, sqrt(bound) * exp(-entropy))
// grid     [B]: one workgroup a row, each thread strides n by WG
// traffic  read logits three times (twice from cache), write y once
// paper    https://arxiv.org/abs/2210.15191
const WG: u32 = 64; // @const 64 8 256
// @include "distribution.wgsl"
// @include "floats.wgsl"
// @include "grid.wgsl"
// @include "reduce.wgsl"

@group(0) @binding(0) var<storage, read> logits: array<u32>;
@group(0) @binding(1) var<storage, read> width: array<u32>;
@group(0) @binding(2) var<storage, read> settings: array<f32>;
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
  let d = distributionOf(row * n, n, thread);
  let bound = settings[0];
  let least = select(bound, min(bound, sqrt(bound) * exp(-d.entropy)), settings[1] > 0.0);
  for (var i = thread; i < n; i += WG) {
    let bits = logits[row * n + i];
    let value = valueOf(bits);
    let likely = value >= d.top || exp(value - d.shift) >= least;
    y[row * n + i] = select(NEG, value, isToken(bits) && likely);
  }
}
