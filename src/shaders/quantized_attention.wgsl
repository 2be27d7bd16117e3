// quantized_attention: attention whose first keys and values lie in codes, which are made numbers in registers
//
// q, o     [T, H, DH] f32      words  include/kv_codes.wgsl      rest [2, B, HKV, R, DH] f32, or f16 two in a u32: the keys
//          and values that are not quantized yet      counts [2B]: keys in rest before this batch, keys in codes
// grid     [T * H]: one workgroup a query; threads are keys for the scores, then QUADS x GROUPS for the values
// traffic  codes, scales and the rest are read once for each query head
// paper    https://arxiv.org/abs/2402.02750
const DH: u32 = 64; // @const
const QUADS: u32 = 16; // @const
const WG: u32 = 64;
const GROUPS: u32 = WG / QUADS; // QUADS is a power of two from DH / 4 on
// @one-of F32 F16
// @optional WIDE CAP
override H: u32 = 4;
override HKV: u32 = 2;
override BITS: u32 = 4;
override G: u32 = 64;
override K_MODE: u32 = 0;
override V_MODE: u32 = 0;
override SCALE: f32 = 0.125;
override SOFTCAP: f32 = 50.0;
override WINDOW: u32 = 0;
// @include "floats.wgsl"
// @include "grid.wgsl"
// @include "reduce.wgsl"
// @include "kv_groups.wgsl"

@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> words: array<u32>;
// @if F32
@group(0) @binding(2) var<storage, read> rest: array<vec4<f32>>;
// @else
@group(0) @binding(2) var<storage, read> rest: array<vec2<u32>>;
// @end
@group(0) @binding(3) var<storage, read> cuSeqlens: array<u32>;
@group(0) @binding(4) var<storage, read> counts: array<u32>;
@group(0) @binding(5) var<storage, read_write> o: array<vec4<f32>>;
// @include "kv_codes.wgsl"

const Q4: u32 = DH / 4;
var<workgroup> query: array<vec4<f32>, Q4>;
const KEYS_PER_PART: u32 = 8;
const PARTS: u32 = WG / KEYS_PER_PART;
var<workgroup> scores: array<f32, WG>;
var<workgroup> largestOf: array<f32, PARTS>;
var<workgroup> weights: array<f32, WG>;
var<workgroup> sums: array<vec4<f32>, WG>;

fn restFour(at: u32) -> vec4<f32> {
  // @if F32
  return rest[at / 4u];
  // @else
  let pair = rest[at / 4u];
  return vec4<f32>(unpack2x16float(pair.x), unpack2x16float(pair.y));
  // @end
}

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let index = flatGroup(group, groups);
  let B = arrayLength(&cuSeqlens) - 1u;
  let token = index / H;
  if (token >= cuSeqlens[B]) {
    return;
  }
  var b = 0u;
  for (var i = 1u; i < B; i++) {
    b = select(b, i, cuSeqlens[i] <= token);
  }
  let head = index % H * HKV / H;
  let quantized = counts[B + b];
  let place = quantized + counts[b] + token - cuSeqlens[b]; // the query's own key
  let start = select(0u, place + 1u - min(place + 1u, WINDOW), WINDOW > 0u);
  let span = spanOf(b);
  let keys = partOf(0u, span);
  let values = partOf(1u, span);
  let R = arrayLength(&rest) * 4u / (2u * B * HKV * DH);
  let coded = head * span.length * DH;
  let kRest = (b * HKV + head) * R * DH - quantized * DH; // wraps, and back again for keys in rest
  let vRest = kRest + B * HKV * R * DH;
  for (var i = thread; i < Q4; i += WG) {
    query[i] = q[index * Q4 + i] * SCALE;
  }
  let steps = words[2] / 4u; // Q4, which compilers would unroll
  let quad = thread % QUADS;
  let share = thread / QUADS;
  var sum = vec4<f32>();
  var largest = NEG;
  var total = 0.0;
  for (var first = start; first <= place; first += WG) {
    workgroupBarrier(); // the query is there; the weights of the tile before have been read
    let key = first + thread;
    var score = NEG;
    if (key <= place) {
      var products = vec4<f32>();
      if (key < quantized) {
        for (var i = 0u; i < steps; i++) {
          products += query[i] * fourOf(keys, K_MODE, span.n, coded + key * DH + 4u * i);
        }
      } else {
        for (var i = 0u; i < steps; i++) {
          products += query[i] * restFour(kRest + key * DH + 4u * i);
        }
      }
      score = (products.x + products.y) + (products.z + products.w);
      // @if CAP
      score = SOFTCAP * tanh(clamp(score / SOFTCAP, -9.01, 9.01));
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
    let weight = select(0.0, exp(score - most), key <= place);
    let shrink = exp(largest - most);
    total = total * shrink + weight;
    largest = most;
    weights[thread] = weight;
    workgroupBarrier();
    sum *= shrink;
    if (quad < Q4) {
      for (var j = share; j < min(WG, place + 1u - first); j += GROUPS) {
        let at = first + j;
        if (at < quantized) {
          sum += weights[j] * fourOf(values, V_MODE, span.n, coded + at * DH + 4u * quad);
        } else {
          sum += weights[j] * restFour(vRest + at * DH + 4u * quad);
        }
      }
    }
  }
  let all = workgroupSum(total, thread);
  sums[thread] = sum;
  workgroupBarrier();
  if (thread >= Q4) {
    return;
  }
  for (var i = 1u; i < GROUPS; i++) {
    sum += sums[i * QUADS + quad];
  }
  o[index * Q4 + quad] = sum * select(0.0, 1.0 / all, all > 0.0);
}
