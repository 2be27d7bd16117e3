// attention: o[t,h] = softmax_j(score(q[t,h] . k[j,g])) v[j,g], g = h * Hkv / H, over the keys j that token t may see
//
// q, o     [T, H, DH] and [T, H, DV] f32      k, v  f32, or 16 bits two in a u32, laid out as include/kv.wgsl says
// grid     [T * H]: one workgroup a query; threads are keys for the scores, then QUADS x GROUPS for the values
// traffic  each workgroup reads its keys and values once; nothing of size T x keys is ever stored
// paper    online softmax, https://arxiv.org/abs/1805.02867
const DH: u32 = 64; // @const
const DV: u32 = 64; // @const
const QUADS: u32 = 16; // @const
const WG: u32 = 64;
const GROUPS: u32 = WG / QUADS; // QUADS is a power of two from DV / 4 on
// @one-of F32 F16 BF16
// @optional BY_4 BIAS MAPPED
// @include "floats.wgsl"
// @include "grid.wgsl"

@group(0) @binding(0) var<storage, read> q: array<f32>;
// @include "kv_quads.wgsl"
@group(0) @binding(3) var<storage, read> cuSeqlens: array<u32>;
@group(0) @binding(4) var<storage, read> geometry: array<u32>;
@group(0) @binding(5) var<storage, read> counts: array<u32>;
@group(0) @binding(6) var<storage, read_write> o: array<f32>;
// @if BIAS
@group(0) @binding(7) var<storage, read> bias: array<u32>;
// @end
// @include "kv.wgsl"
// @include "score.wgsl"

const KEYS_PER_PART: u32 = 8;
const PARTS: u32 = WG / KEYS_PER_PART;
const Q4: u32 = (DH + 3) / 4;
var<workgroup> query: array<vec4<f32>, Q4>;
var<workgroup> scores: array<f32, WG>; // then the weights of the tile
var<workgroup> largestOf: array<f32, PARTS>;
var<workgroup> sums: array<vec4<f32>, WG>;
var<workgroup> totals: array<f32, WG>;

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let H = geometry[HEADS];
  let index = flatGroup(group, groups);
  let token = index / H;
  let head = index % H;
  if (token >= cuSeqlens[arrayLength(&cuSeqlens) - 1u]) {
    return;
  }
  let s = sequenceOf(token);
  let place = s.place + i32(token - s.start);
  let keys = visible(place, s.keys);
  let g = head * geometry[KV_HEADS] / H;
  let k0 = s.k + g * geometry[K_STRIDES + 1u];
  let v0 = s.v + g * geometry[V_STRIDES + 1u];
  let q0 = qAt(s, token, head, DH);
  let slope = slopeOf(head);
  let sink = sinkOf(head);
  // @if BIAS
  let bias0 = biasAt(s, head) + (token - s.start) * geometry[BIAS_STRIDES + 2u];
  // @end
  let quad = thread % QUADS;
  let share = thread / QUADS;
  for (var i4 = thread; i4 < Q4; i4 += WG) {
    var four = vec4<f32>();
    for (var i = 0u; i < min(4u, DH - 4u * i4); i++) {
      four[i] = q[q0 + 4u * i4 + i];
    }
    query[i4] = four * bitcast<f32>(geometry[SCALE]);
  }
  var sum = vec4<f32>();
  var largest = sink;
  var total = select(0.0, 1.0, thread == 0u && sink > NEG);
  for (var first = keys.x; first < keys.y; first += WG) {
    workgroupBarrier(); // the query is there; the weights of the tile before have been read
    let key = first + thread;
    var score = HIDDEN;
    if (key < keys.y) {
      let at = keyAt(s, k0, key);
      var products = vec4<f32>();
      for (var i = 0u; i < Q4; i++) {
        products += query[i] * keyQuad(at, i);
      }
      score = capped(products.x + products.y + products.z + products.w);
      score -= slope * abs(f32(place - i32(key)));
      // @if BIAS
      score = biased(score, bias0 + key * geometry[BIAS_STRIDES + 3u]);
      // @end
    }
    scores[thread] = score;
    workgroupBarrier();
    if (thread < PARTS) {
      var most = NEG;
      for (var i = 0u; i < KEYS_PER_PART; i++) {
        most = max(most, scores[thread * KEYS_PER_PART + i]);
      }
      largestOf[thread] = most;
    }
    workgroupBarrier();
    var most = largest;
    for (var i = 0u; i < PARTS; i++) {
      most = max(most, largestOf[i]);
    }
    let weight = select(0.0, exp(score - most), score > HIDDEN);
    scores[thread] = weight;
    let shrink = exp(largest - most);
    total = total * shrink + weight;
    largest = most;
    workgroupBarrier();
    sum *= shrink;
    if (4u * quad < DV) {
      for (var j = share; j < min(WG, keys.y - first); j += GROUPS) {
        sum += scores[j] * valueQuad(valueAt(s, v0, first + j), quad);
      }
    }
  }
  sums[thread] = sum;
  totals[thread] = total;
  workgroupBarrier();
  if (thread >= QUADS || 4u * quad >= DV) {
    return;
  }
  var all = 0.0;
  for (var i = 0u; i < WG; i++) {
    all += totals[i];
  }
  for (var i = 1u; i < GROUPS; i++) {
    sum += sums[i * QUADS + quad];
  }
  sum *= select(0.0, 1.0 / all, all > 0.0); // a query that sees no key gives zeros
  let at = oAt(s, token, head, DV) + 4u * quad;
  for (var i = 0u; i < min(4u, DV - 4u * quad); i++) {
    o[at + i] = sum[i];
  }
}
