// kv_quantize_groups: scale and zero of each group, x = (code - zero) * scale
//
// quanto   scale = (max - min) / LEVELS, zero = round(-min / scale)
// HQQ      1 / scale = min(LEVELS / (max - min), 2e4), or 1 for a range up to 1e-4, zero = -min / scale
// x        [N] f32, each sequence [Hkv, S, DH] from its span on      words  include/kv_codes.wgsl, its header is read
// params   [groups, 2] f32: scale, zero
// grid     a thread a group
// @optional HQQ
override PART: u32 = 0; // 0 keys, 1 values
override SEQUENCES: u32 = 1;
var<private> DH: u32;
var<private> HKV: u32;
var<private> G: u32;
var<private> BITS: u32;
const WG: u32 = 64;
// @include "grid.wgsl"
// @include "kv_groups.wgsl"
// @include "kv_codes.wgsl"

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> words: array<u32>;
@group(0) @binding(2) var<storage, read_write> params: array<vec2<f32>>;

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  DH = words[2];
  HKV = words[3];
  G = words[4];
  BITS = words[5];
  let MODE = (words[7] >> (2u * PART)) & 3u;
  let LEVELS = f32(words[6]);
  let block = flatGroup(group, groups);
  let index = block * WG + thread;
  let span = spanOf(sequenceOfElement(index * G, SEQUENCES));
  let first = span.first;
  let n = span.n;
  let mine = index - first / G;
  let inside = index < arrayLength(&params) && mine < n / G;
  if (!inside) {
    return;
  }
  var low = x[first + memberOf(MODE, mine, 0u, n)];
  var high = low;
  for (var i = 1u; i < G; i++) {
    let value = x[first + memberOf(MODE, mine, i, n)];
    low = min(low, value);
    high = max(high, value);
  }
  // @if HQQ
  let inverse = select(min(LEVELS / (high - low), 2e4), 1.0, high - low <= 1e-4);
  params[index] = vec2<f32>(1.0 / inverse, -low * inverse);
  // @else
  let constant = select(1.0, abs(low), abs(low) > 0.0);
  let scale = select((high - low) / LEVELS, constant, high <= low);
  params[index] = vec2<f32>(scale, round(-low / scale));
  // @end
}
