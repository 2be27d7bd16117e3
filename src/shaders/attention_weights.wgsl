// attention_weights: p[h,t,j] = softmax_j(score(q[t,h] . k[j,g])) over the keys j that token t may see, else 0
//
// q        [T, H, DH] f32      p  [H, T, S] f32, S at least the longest sequence      k as in include/kv.wgsl
// grid     [T * H]: one workgroup a query
const DH: u32 = 64; // @const
const WG: u32 = 64;
// @one-of F32 F16 BF16
// @optional BIAS MAPPED
// @include "floats.wgsl"
// @include "grid.wgsl"
// @include "reduce.wgsl"

@group(0) @binding(0) var<storage, read> q: array<f32>;
// @if F32
@group(0) @binding(1) var<storage, read> k: array<f32>;
// @else
@group(0) @binding(1) var<storage, read> k: array<u32>;
// @end
@group(0) @binding(2) var<storage, read> cuSeqlens: array<u32>;
@group(0) @binding(3) var<storage, read> geometry: array<u32>;
@group(0) @binding(4) var<storage, read> counts: array<u32>;
@group(0) @binding(5) var<storage, read_write> p: array<f32>;
// @if BIAS
@group(0) @binding(6) var<storage, read> bias: array<u32>;
// @end
// @include "kv.wgsl"
// @include "score.wgsl"

fn dotAt(query: u32, at: u32) -> f32 {
  var sum = 0.0;
  for (var d = 0u; d < DH; d++) {
    // @if F32
    sum += q[query + d] * k[at + d];
    // @end
    // @if F16
    sum += q[query + d] * unpack2x16float(k[(at + d) / 2u])[(at + d) & 1u];
    // @end
    // @if BF16
    sum += q[query + d] * unpackBf16(k[(at + d) / 2u])[(at + d) & 1u];
    // @end
  }
  return sum;
}

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let H = geometry[HEADS];
  let T = cuSeqlens[arrayLength(&cuSeqlens) - 1u];
  let index = flatGroup(group, groups);
  if (index >= T * H) {
    return;
  }
  let S = arrayLength(&p) / (T * H);
  let token = index / H;
  let head = index % H;
  let s = sequenceOf(token);
  let place = s.place + i32(token - s.start);
  let keys = visible(place, s.keys);
  let k0 = s.k + head * geometry[KV_HEADS] / H * geometry[K_STRIDES + 1u];
  let q0 = qAt(s, token, head, DH);
  let scale = bitcast<f32>(geometry[SCALE]);
  let sink = sinkOf(head);
  // @if BIAS
  let bias0 = biasAt(s, head) + (token - s.start) * geometry[BIAS_STRIDES + 2u];
  // @end
  let first = (head * T + token) * S;
  var largest = sink;
  for (var j = thread; j < S; j += WG) {
    var score = HIDDEN;
    if (j >= keys.x && j < keys.y) {
      score = capped(scale * dotAt(q0, keyAt(s, k0, j)));
      score -= slopeOf(head) * abs(f32(place - i32(j)));
      // @if BIAS
      score = biased(score, bias0, place, j);
      // @end
    }
    p[first + j] = score;
    largest = max(largest, score);
  }
  largest = workgroupMax(largest, thread);
  var total = select(0.0, exp(sink - largest), thread == 0u && sink > NEG);
  for (var j = thread; j < S; j += WG) {
    let e = select(0.0, exp(p[first + j] - largest), p[first + j] > HIDDEN);
    p[first + j] = e;
    total += e;
  }
  total = workgroupSum(total, thread);
  for (var j = thread; j < S; j += WG) {
    p[first + j] *= select(0.0, 1.0 / total, total > 0.0);
  }
}
