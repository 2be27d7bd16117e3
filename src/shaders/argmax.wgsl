// argmax: y[r] = the least i whose x[r,i] is the largest of its row; a NaN counts as larger than anything
//
// x        [rows, n] f32, compared by their bits      y [rows] u32
// grid     [rows]: one workgroup a row, each thread strides n by WG, in vec4 where n divides by 4 (BY_4)
// traffic  read x: bandwidth-bound
const WG: u32 = 64; // @const 64 8 256
// @optional BY_4
// @include "elem.wgsl"
// @include "grid.wgsl"

@group(0) @binding(0) var<storage, read> x: array<word>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;

var<workgroup> keys: array<u32, WG>;
var<workgroup> places: array<u32, WG>;

// an integer that orders as the float does: above 0 always, equal for the two zeros, greatest for NaN
fn orderKey(bits: word) -> word {
  let magnitude = bits & word(0x7fffffffu);
  let key = select(magnitude + word(0x80000000u), word(0x80000000u) - magnitude, bits > word(0x80000000u));
  return select(key, word(0xffffffffu), magnitude > word(0x7f800000u));
}

// @if BY_4
fn top(v: word) -> u32 {
  return max(max(v.x, v.y), max(v.z, v.w));
}

fn lane(v: word, key: u32) -> u32 {
  return select(select(select(3u, 2u, v.z == key), 1u, v.y == key), 0u, v.x == key);
}
// @else
fn top(v: word) -> u32 {
  return v;
}

fn lane(v: word, key: u32) -> u32 {
  return 0u;
}
// @end

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let rows = arrayLength(&y);
  let n = arrayLength(&x) / rows;
  let row = flatGroup(group, groups);
  if (row >= rows) {
    return;
  }
  var key = 0u;
  var place = 0u;
  for (var i = thread; i < n; i += WG) {
    let k = top(orderKey(x[row * n + i]));
    if (k > key) {
      key = k;
      place = i;
    }
  }
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
  if (thread == 0u) {
    let found = places[0];
    y[row] = found * LANES + lane(orderKey(x[row * n + found]), keys[0]);
  }
}
