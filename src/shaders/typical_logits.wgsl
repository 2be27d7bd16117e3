// typical_logits: y[r,i] = logits[r,i] for the tokens whose -log(probability) is nearest to the entropy, until they weigh
// `mass` together, and for those that are as near as the last one; else -1e30
//
// logits   [B, n] f32 as bits; NaN counts as -infinity      width: n elements, bound for their number      y [B, n] f32
// mass     [1] f32
// grid     [B]: one workgroup a row, each thread strides n by WG
// traffic  read logits fourteen times (mostly from cache), write y once
// paper    https://arxiv.org/abs/2202.00666
const WG: u32 = 64; // @const 64 8 256
// @include "distribution.wgsl"
// @include "floats.wgsl"
// @include "grid.wgsl"
// @include "reduce.wgsl"
// @include "search.wgsl"

@group(0) @binding(0) var<storage, read> logits: array<u32>;
@group(0) @binding(1) var<storage, read> width: array<u32>;
@group(0) @binding(2) var<storage, read> mass: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

var<private> shift: f32;
var<private> entropy: f32;

// how far a token is from typical, as bits, which order as the numbers do
fn keyAt(i: u32) -> u32 {
  let bits = logits[i];
  return select(NO_KEY, bitcast<u32>(abs((shift - valueOf(bits)) - entropy)), isToken(bits));
}

fn weightAt(i: u32) -> f32 {
  return exp(max(valueOf(logits[i]) - shift, -200.0));
}

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
  shift = d.shift;
  entropy = d.entropy;
  let most = crossing(mass[0], row * n, n, thread);
  for (var i = thread; i < n; i += WG) {
    y[row * n + i] = select(NEG, valueOf(logits[row * n + i]), keyAt(row * n + i) <= most);
  }
}
