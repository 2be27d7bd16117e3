// kv_flatten: keys (or values) of a cache in the flat order [Hkv, S, DH] of each sequence, as they are quantized
//
// x        [N] f32; `to` says where each sequence begins and its S, as the header of include/kv_codes.wgsl does
// FRESH    from packed [T, Hkv, DH] f32 and cuSeqlens
// else     the first quantized[b] keys from codes, the others from rest [2, B, Hkv, R, DH] f32, or f16 two in a u32
// counts   [2B]: keys in rest, keys in codes      grid     a thread 4 elements
// @one-of FRESH F32 F16
// @optional WIDE
override PART: u32 = 0; // 0 keys, 1 values
override SEQUENCES: u32 = 1;
var<private> DH: u32;
var<private> HKV: u32;
var<private> G: u32;
var<private> BITS: u32;
// @include "grid.wgsl"
// @include "kv_groups.wgsl"

@group(0) @binding(0) var<storage, read> to: array<u32>;
@group(0) @binding(1) var<storage, read_write> x: array<vec4<f32>>;
// @if FRESH
@group(0) @binding(2) var<storage, read> packed: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> cuSeqlens: array<u32>;
// @else
@group(0) @binding(2) var<storage, read> words: array<u32>;
@group(0) @binding(3) var<storage, read> counts: array<u32>;
// @if F32
@group(0) @binding(4) var<storage, read> rest: array<vec4<f32>>;
// @else
@group(0) @binding(4) var<storage, read> rest: array<vec2<u32>>;
// @end
// @include "kv_codes.wgsl"
// @end

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  DH = to[2];
  HKV = to[3];
  G = to[4];
  BITS = to[5];
  let index = flatGroup(group, groups) * 64u + thread;
  if (index >= arrayLength(&x)) {
    return;
  }
  var b = 0u;
  for (var i = 1u; i < SEQUENCES; i++) {
    b = select(b, i, to[8u + 2u * i] <= index * 4u);
  }
  let S = to[9u + 2u * b];
  let at = index * 4u - to[8u + 2u * b];
  let d = at % DH;
  let key = at / DH % max(S, 1u);
  let head = at / DH / max(S, 1u);
  if (at >= HKV * S * DH) {
    x[index] = vec4<f32>();
    return;
  }
  // @if FRESH
  x[index] = packed[(((cuSeqlens[b] + key) * HKV + head) * DH + d) / 4u];
  // @else
  let quantized = counts[SEQUENCES + b];
  if (key < quantized) {
    let span = spanOf(b);
    x[index] = fourOf(partOf(PART, span), (words[7] >> (2u * PART)) & 3u, span.n, (head * span.length + key) * DH + d);
    return;
  }
  let R = arrayLength(&rest) * 4u / (2u * SEQUENCES * HKV * DH);
  let place = (((PART * SEQUENCES + b) * HKV + head) * R + key - quantized) * DH + d;
  // @if F32
  x[index] = rest[place / 4u];
  // @else
  let pair = rest[place / 4u];
  x[index] = vec4<f32>(unpack2x16float(pair.x), unpack2x16float(pair.y));
  // @end
  // @end
}
