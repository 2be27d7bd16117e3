// kv_quantize_codes: codes of BITS bits in words of 32, in the flat order of x, and the scales that give x back
//
// x, params  as in kv_quantize_groups.wgsl      words  include/kv_codes.wgsl: the codes and scales of PART are written
// grid     a thread a word; the first threads convert the scales too
// @optional QUANTO WIDE
override PART: u32 = 0; // 0 keys, 1 values
override SEQUENCES: u32 = 1;
var<private> DH: u32;
var<private> HKV: u32;
var<private> G: u32;
var<private> BITS: u32;
// @include "floats.wgsl"
// @include "grid.wgsl"
// @include "kv_groups.wgsl"

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> params: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read_write> words: array<u32>;
// @include "kv_codes.wgsl"

@compute @workgroup_size(64)
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
  let word = flatGroup(group, groups) * 64u + thread;
  if (word < arrayLength(&params)) {
    let p = params[word];
    let pair = vec2<f32>(p.x, -p.y * p.x);
    let to = scalesFrom(PART) + word * PER_GROUP;
    // @if WIDE
    words[to] = bitcast<u32>(pair.x);
    words[to + 1u] = bitcast<u32>(pair.y);
    // @else
    words[to] = packF16Saturated(pair);
    // @end
  }
  let per = 32u / BITS;
  if (word * per >= arrayLength(&x)) {
    return;
  }
  let span = spanOf(sequenceOfElement(word * per, SEQUENCES));
  let first = span.first;
  let n = span.n;
  var bits = 0u;
  for (var i = 0u; i < per; i++) {
    let at = word * per + i - first;
    if (at < n) {
      let p = params[first / G + groupOf(MODE, at, n)];
      // @if QUANTO
      let code = round(x[first + at] / p.x) + p.y;
      // @else
      let code = round(x[first + at] / p.x + p.y);
      // @end
      bits |= u32(clamp(code, 0.0, LEVELS)) << (BITS * i);
    }
  }
  words[codesFrom(PART) + word] = bits;
}
