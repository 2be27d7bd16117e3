// top_h_logits: y[r,i] = logits[r,i] for the largest of the 100 largest logits, as long as their shares of the entropy of
// these 100 sum up to no more than `share` of it; the largest and what equals the last one in any case; else -1e30
//
// logits   [B, n] f32 as bits; NaN counts as -infinity      width: n elements, bound for their number      y [B, n] f32
// share    [1] f32
// grid     [B]: one workgroup a row, each thread strides n by WG
// traffic  read logits thirteen times (mostly from cache), write y once
const WG: u32 = 64; // @const 64 8 256
const MOST: u32 = 100u;
// @include "distribution.wgsl"
// @include "floats.wgsl"
// @include "grid.wgsl"
// @include "reduce.wgsl"
// @include "search.wgsl"

@group(0) @binding(0) var<storage, read> logits: array<u32>;
@group(0) @binding(1) var<storage, read> width: array<u32>;
@group(0) @binding(2) var<storage, read> share: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

var<workgroup> found: atomic<u32>;
var<workgroup> unsorted: array<f32, MOST>;
var<workgroup> sorted: array<f32, MOST>;
var<workgroup> least: u32;

// the larger the logit, the less its key; the two zeros are equal
fn keyAt(i: u32) -> u32 {
  let bits = logits[i];
  let magnitude = bits & 0x7fffffffu;
  let key = select(0x7f800000u - min(magnitude, 0x7f7ffffeu), 0x7f800000u + magnitude, bits >= 0x80000000u);
  return select(NO_KEY, key, isToken(bits));
}

fn weightAt(i: u32) -> f32 {
  return 1.0;
}

// the last of the `count` sorted logits whose share of the entropy is kept
fn lastKept(count: u32) -> f32 {
  var sum = 0.0;
  var moment = 0.0;
  for (var i = 0u; i < count; i++) {
    let d = max(sorted[i] - sorted[0], -200.0);
    sum += exp(d);
    moment += exp(d) * d;
  }
  let limit = share[0] * (log(sum) - moment / sum);
  var entropy = 0.0;
  var last = 0u;
  for (var i = 0u; i < count; i++) {
    let d = max(sorted[i] - sorted[0], -200.0) - log(sum);
    entropy -= exp(d) * d;
    if (entropy > limit) {
      break;
    }
    last = i;
  }
  return sorted[last];
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
  let first = row * n;
  let hundredth = crossing(f32(MOST), first, n, thread);
  if (thread == 0u) {
    atomicStore(&found, 0u);
  }
  workgroupBarrier();
  var last = LOWEST;
  var tokens = 0.0;
  for (var i = thread; i < n; i += WG) {
    let key = keyAt(first + i);
    if (key < hundredth) { // fewer than 100 tokens, or all
      unsorted[min(atomicAdd(&found, 1u), MOST - 1u)] = valueOf(logits[first + i]);
    }
    last = max(last, select(LOWEST, valueOf(logits[first + i]), key == hundredth));
    tokens += select(0.0, 1.0, key != NO_KEY);
  }
  last = workgroupMax(last, thread);
  let count = min(MOST, u32(workgroupSum(tokens, thread)));
  let above = min(atomicLoad(&found), count);
  for (var i = above + thread; i < count; i += WG) {
    unsorted[i] = last;
  }
  workgroupBarrier();
  for (var i = thread; i < count; i += WG) {
    var place = 0u;
    for (var j = 0u; j < count; j++) {
      place += u32(unsorted[j] > unsorted[i] || (unsorted[j] == unsorted[i] && j < i));
    }
    sorted[place] = unsorted[i];
  }
  workgroupBarrier();
  if (thread == 0u) {
    least = 0xffffffffu;
    if (count > 0u) {
      least = bitcast<u32>(lastKept(count));
    }
  }
  let bound = workgroupUniformLoad(&least);
  for (var i = thread; i < n; i += WG) {
    let value = valueOf(logits[first + i]);
    y[first + i] = select(NEG, value, keyAt(first + i) != NO_KEY && value >= bitcast<f32>(bound));
  }
}
