// attention: o[t,h] = softmax_j(scale * q[t,h] . k[j,g]) v[j,g], g = h * Hkv / H, over the keys j that token t may see
//
// q, o     [T, H, DH] f32      k, v  f32 or f16 two in a u32, laid out as include/kv.wgsl says      sums are f32
// grid     [T * H]: one workgroup a query; threads are keys for the scores, then head dimensions for the values
// traffic  each workgroup reads its keys and values once; nothing of size T x keys is ever stored
// paper    online softmax, https://arxiv.org/abs/1805.02867
const DH: u32 = 64; // @const
const WG: u32 = 64;
const PARTS: u32 = (DH + WG - 1u) / WG;
// @one-of F32 F16
// @optional PACKED
// @include "floats.wgsl"
// @include "grid.wgsl"

@group(0) @binding(0) var<storage, read> q: array<f32>;
// @if F32
@group(0) @binding(1) var<storage, read> k: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
// @else
@group(0) @binding(1) var<storage, read> k: array<u32>;
@group(0) @binding(2) var<storage, read> v: array<u32>;
// @end
@group(0) @binding(3) var<storage, read> cuSeqlens: array<u32>;
@group(0) @binding(4) var<storage, read> geometry: array<u32>;
// @if PACKED
// @else
@group(0) @binding(5) var<storage, read> past: array<u32>;
// @end
@group(0) @binding(6) var<storage, read_write> o: array<f32>;
// @include "kv.wgsl"

var<workgroup> query: array<f32, DH>;
var<workgroup> scores: array<f32, WG>;
var<workgroup> weights: array<f32, WG>;

fn score(at: u32) -> f32 {
  var sum = 0.0;
  // @if F32
  for (var d = 0u; d < DH; d++) {
    sum += query[d] * k[at + d];
  }
  // @else
  for (var d = 0u; d < DH; d += 2u) {
    let pair = unpack2x16float(k[(at + d) / 2u]);
    sum += query[d] * pair.x + query[d + 1u] * pair.y;
  }
  // @end
  return sum;
}

fn value(at: u32) -> f32 {
  // @if F32
  return v[at];
  // @else
  return unpack2x16float(v[at / 2u])[at & 1u];
  // @end
}

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let H = geometry[0];
  let index = flatGroup(group, groups);
  if (index >= arrayLength(&q) / DH) {
    return;
  }
  let row = locate(index / H);
  let keys = visible(row);
  let base = row.base + (index % H) * geometry[1] / H * geometry[3];
  let scale = bitcast<f32>(geometry[6]);
  for (var d = thread; d < DH; d += WG) {
    query[d] = q[index * DH + d] * scale;
  }
  var sums: array<f32, PARTS>;
  var largest = NEG;
  var total = 0.0;
  for (var first = keys.x; first < keys.y; first += WG) {
    workgroupBarrier(); // the query is there; the weights of the tile before have been read
    let key = first + thread;
    var mine = NEG;
    if (key < keys.y) {
      mine = score(base + key * geometry[4]);
    }
    scores[thread] = mine;
    workgroupBarrier();
    let count = min(WG, keys.y - first);
    var most = largest;
    for (var j = 0u; j < count; j++) {
      most = max(most, scores[j]);
    }
    weights[thread] = select(0.0, exp(mine - most), key < keys.y);
    workgroupBarrier();
    let shrink = exp(largest - most);
    total *= shrink;
    for (var j = 0u; j < count; j++) {
      total += weights[j];
    }
    for (var part = 0u; part < PARTS; part++) {
      let d = min(part * WG + thread, DH - 1u);
      var sum = sums[part] * shrink;
      for (var j = 0u; j < count; j++) {
        sum += weights[j] * value(base + (first + j) * geometry[4] + d);
      }
      sums[part] = sum;
    }
    largest = most;
  }
  let inverse = select(0.0, 1.0 / total, total > 0.0); // a query that sees no key gives zeros
  for (var part = 0u; part < PARTS; part++) {
    if (part * WG + thread < DH) {
      o[index * DH + part * WG + thread] = sums[part] * inverse;
    }
  }
}
