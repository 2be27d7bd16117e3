// top_k: the k greatest of each row, greatest first, of equals the lower index first; with their log(softmax(x))
//
// x        [rows, n] f32      indices [rows, k] u32      logProbs [rows, k] f32
// norms    [rows] f32: log(sum(exp(x))); tells the kernel how many rows there are
//          of a row with an infinite element or NaN every index is 0xffffffff
// grid     [rows]: one workgroup a row, each thread strides n by WG; the next greatest is found in each of k passes
// traffic  read x k + 1 times, all but the first from cache: for small k
const WG: u32 = 64; // @const 64 8 256
// @include "grid.wgsl"

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> indices: array<u32>;
@group(0) @binding(2) var<storage, read_write> logProbs: array<f32>;
@group(0) @binding(3) var<storage, read_write> norms: array<f32>;

const NONE: u32 = 0xffffffffu;

var<workgroup> keys: array<u32, WG>;
var<workgroup> places: array<u32, WG>;
var<workgroup> sums: array<f32, WG>;

// an integer that orders as the finite float does: equal for the two zeros, NONE for infinities and NaN
fn orderKey(value: f32) -> u32 {
  let bits = bitcast<u32>(value);
  let magnitude = bits & 0x7fffffffu;
  let key = select(magnitude + 0x80000000u, 0x80000000u - magnitude, bits > 0x80000000u);
  return select(key, NONE, magnitude >= 0x7f800000u);
}

// the greatest key of all threads, and the least place that has it
fn greatest(key: u32, place: u32, thread: u32) {
  keys[thread] = key;
  places[thread] = place;
  workgroupBarrier();
  for (var half = WG / 2u; half > 0u; half >>= 1u) {
    if (thread < half) {
      let k = keys[thread + half];
      let p = places[thread + half];
      if (k > keys[thread] || (k == keys[thread] && p < places[thread])) {
        keys[thread] = k;
        places[thread] = p;
      }
    }
    workgroupBarrier();
  }
}

fn total(part: f32, thread: u32) -> f32 {
  sums[thread] = part;
  workgroupBarrier();
  for (var half = WG / 2u; half > 0u; half >>= 1u) {
    if (thread < half) {
      sums[thread] += sums[thread + half];
    }
    workgroupBarrier();
  }
  return sums[0];
}

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let rows = arrayLength(&norms);
  let n = arrayLength(&x) / rows;
  let k = arrayLength(&indices) / rows;
  let row = flatGroup(group, groups);
  if (row >= rows) {
    return;
  }
  var most = 0.0;
  var norm = 0.0;
  var finite = true;
  var lastKey = NONE;
  var lastPlace = 0u;
  for (var j = 0u; j < k; j++) {
    var key = 0u;
    var place = NONE;
    for (var i = thread; i < n; i += WG) {
      let candidate = orderKey(x[row * n + i]);
      // not among those that were found; in the first pass what is not finite is found
      let fresh = j == 0u || candidate < lastKey || (candidate == lastKey && i > lastPlace);
      if (fresh && (candidate > key || place == NONE)) {
        key = candidate;
        place = i;
      }
    }
    greatest(key, place, thread);
    lastKey = workgroupUniformLoad(&keys[0]);
    lastPlace = workgroupUniformLoad(&places[0]);
    if (j == 0u) {
      finite = lastKey != NONE;
      most = x[row * n + lastPlace];
      var part = 0.0;
      for (var i = thread; i < n; i += WG) {
        part += exp(x[row * n + i] - most);
      }
      norm = most + log(total(part, thread));
    }
    if (thread == 0u) {
      indices[row * k + j] = select(NONE, lastPlace, finite);
      logProbs[row * k + j] = select(0.0, x[row * n + min(lastPlace, n - 1u)] - norm, finite);
      norms[row] = norm;
    }
  }
}
