// top_k: the k greatest of each row, greatest first, of equals the lower index first; with their log(softmax(x))
//
// x        [rows, n] f32      indices [rows, k] u32      logProbs [rows, k] f32
// norms    [rows] f32: log(sum(exp(x))); tells the kernel how many rows there are
//          of a row with an infinite element or NaN every index is 0xffffffff
// grid     [rows]: one workgroup a row; its elements are dealt out, i to share i % SHARES, each thread has some shares;
//          the greatest of each is kept, and only the share that an element is taken of is looked through again
// traffic  read x twice, the second time from cache
const WG: u32 = 64; // @const 64 8 256
// @include "grid.wgsl"

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> indices: array<u32>;
@group(0) @binding(2) var<storage, read_write> logProbs: array<f32>;
@group(0) @binding(3) var<storage, read_write> norms: array<f32>;

const NONE: u32 = 0xffffffffu;
const SHARES: u32 = 1024u; // a multiple of WG

var<workgroup> shareKeys: array<u32, SHARES>;
var<workgroup> sharePlaces: array<u32, SHARES>;
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

// the key and the place of the greatest of a share that comes after (key, place); of all where the key is NONE
fn nextOf(start: u32, n: u32, share: u32, key: u32, place: u32) -> vec2<u32> {
  var top = vec2(0u, NONE);
  for (var i = share; i < n; i += SHARES) {
    let candidate = orderKey(x[start + i]);
    let left = key == NONE || candidate < key || (candidate == key && i > place);
    if (left && (candidate > top.x || top.y == NONE)) {
      top = vec2(candidate, i);
    }
  }
  return top;
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
  for (var share = thread; share < SHARES; share += WG) {
    let top = nextOf(row * n, n, share, NONE, 0u);
    shareKeys[share] = top.x;
    sharePlaces[share] = top.y;
  }
  var norm = 0.0;
  var finite = true;
  for (var j = 0u; j < k; j++) {
    var key = 0u;
    var place = NONE;
    for (var share = thread; share < SHARES; share += WG) {
      let p = sharePlaces[share];
      if (shareKeys[share] > key || (shareKeys[share] == key && p < place)) {
        key = shareKeys[share];
        place = p;
      }
    }
    greatest(key, place, thread);
    let bestKey = workgroupUniformLoad(&keys[0]);
    let best = workgroupUniformLoad(&places[0]);
    if (j == 0u) {
      finite = bestKey != NONE;
      let most = x[row * n + best];
      var part = 0.0;
      for (var i = thread; i < n; i += WG) {
        part += exp(x[row * n + i] - most);
      }
      norm = most + log(total(part, thread));
    }
    if (thread == 0u) {
      indices[row * k + j] = select(NONE, best, finite);
      logProbs[row * k + j] = select(0.0, x[row * n + min(best, n - 1u)] - norm, finite);
      norms[row] = norm;
    }
    let share = best % SHARES;
    if (share % WG == thread) {
      let top = nextOf(row * n, n, share, bestKey, best);
      shareKeys[share] = top.x;
      sharePlaces[share] = top.y;
    }
  }
}
