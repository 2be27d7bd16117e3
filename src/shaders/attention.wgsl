// attention: o[t,h] = softmax_j(scale * q[t,h] . k[j,g]) v[j,g], g = h * Hkv / H, over the keys j that token t may see
//
// q, o     [T, H, DH] f32      k, v  f32 or f16 two in a u32, laid out as include/kv.wgsl says      sums are f32
// grid     [T * H]: one workgroup a query; threads are keys for the scores, then QUADS x GROUPS for the values
// traffic  each workgroup reads its keys and values once; nothing of size T x keys is ever stored
// paper    online softmax, https://arxiv.org/abs/1805.02867
const DH: u32 = 64; // @const
const QUADS: u32 = 16; // @const
const WG: u32 = 64;
const GROUPS: u32 = WG / QUADS; // QUADS is a power of two from DH / 4 on
// @one-of F32 F16
// @optional PACKED BY_4
// @include "floats.wgsl"
// @include "grid.wgsl"

@group(0) @binding(0) var<storage, read> q: array<f32>;
// @if F32
// @if BY_4
@group(0) @binding(1) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> v: array<vec4<f32>>;
// @else
@group(0) @binding(1) var<storage, read> k: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
// @end
// @else
// @if BY_4
@group(0) @binding(1) var<storage, read> k: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read> v: array<vec2<u32>>;
// @else
@group(0) @binding(1) var<storage, read> k: array<u32>;
@group(0) @binding(2) var<storage, read> v: array<u32>;
// @end
// @end
@group(0) @binding(3) var<storage, read> cuSeqlens: array<u32>;
@group(0) @binding(4) var<storage, read> geometry: array<u32>;
// @if PACKED
// @else
@group(0) @binding(5) var<storage, read> past: array<u32>;
// @end
@group(0) @binding(6) var<storage, read_write> o: array<f32>;
// @include "kv.wgsl"

const KEYS_PER_PART: u32 = 8;
const PARTS: u32 = WG / KEYS_PER_PART;
var<workgroup> query: array<vec4<f32>, QUADS>;
var<workgroup> scores: array<f32, WG>; // then the weights of the tile
var<workgroup> largestOf: array<f32, PARTS>;
var<workgroup> sums: array<vec4<f32>, WG>;
var<workgroup> totals: array<f32, WG>;

// Four elements of a key or value from `at` on; those past the head are zero.
fn keyQuad(at: u32, quad: u32) -> vec4<f32> {
  // @if BY_4
  // @if F32
  return k[at / 4u + quad];
  // @else
  let words = k[at / 4u + quad];
  return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
  // @end
  // @else
  var four = vec4<f32>();
  for (var i = 0u; i < 4u; i++) {
    let d = 4u * quad + i;
    if (d < DH) {
      // @if F32
      four[i] = k[at + d];
      // @else
      four[i] = unpack2x16float(k[(at + d) / 2u])[d & 1u];
      // @end
    }
  }
  return four;
  // @end
}

fn valueQuad(at: u32, quad: u32) -> vec4<f32> {
  // @if BY_4
  // @if F32
  return v[at / 4u + quad];
  // @else
  let words = v[at / 4u + quad];
  return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
  // @end
  // @else
  var four = vec4<f32>();
  for (var i = 0u; i < 4u; i++) {
    let d = 4u * quad + i;
    if (d < DH) {
      // @if F32
      four[i] = v[at + d];
      // @else
      four[i] = unpack2x16float(v[(at + d) / 2u])[d & 1u];
      // @end
    }
  }
  return four;
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
  let quad = thread % QUADS;
  let share = thread / QUADS;
  if (thread < QUADS) {
    var four = vec4<f32>();
    for (var i = 0u; i < 4u; i++) {
      if (4u * thread + i < DH) {
        four[i] = q[index * DH + 4u * thread + i];
      }
    }
    query[thread] = four * bitcast<f32>(geometry[6]);
  }
  var sum = vec4<f32>();
  var largest = NEG;
  var total = 0.0;
  for (var first = keys.x; first < keys.y; first += WG) {
    workgroupBarrier(); // the query is there; the weights of the tile before have been read
    let key = first + thread;
    var score = NEG;
    if (key < keys.y) {
      let at = base + key * geometry[4];
      var products = vec4<f32>();
      for (var i = 0u; i < (DH + 3u) / 4u; i++) {
        products += query[i] * keyQuad(at, i);
      }
      score = products.x + products.y + products.z + products.w;
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
    let weight = select(0.0, exp(score - most), key < keys.y);
    scores[thread] = weight;
    let shrink = exp(largest - most);
    total = total * shrink + weight;
    largest = most;
    workgroupBarrier();
    sum *= shrink;
    if (4u * quad < DH) {
      for (var j = share; j < min(WG, keys.y - first); j += GROUPS) {
        sum += scores[j] * valueQuad(base + (first + j) * geometry[4], quad);
      }
    }
  }
  sums[thread] = sum;
  totals[thread] = total;
  workgroupBarrier();
  if (thread >= QUADS || 4u * quad >= DH) {
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
  for (var i = 0u; i < min(4u, DH - 4u * quad); i++) {
    o[index * DH + 4u * quad + i] = sum[i];
  }
}
