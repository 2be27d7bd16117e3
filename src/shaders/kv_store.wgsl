// kv_store: writes the keys and values of a batch behind those that the cache holds
//
// k, v     [T, Hkv, DH] and [T, Hkv, DV] f32      keys, values  as include/kv.wgsl says: f32, or 16 bits two in a u32
// grid     a thread a pair of elements of k and v, DH and DV even where two share a u32
// @one-of F32 F16 BF16
// @optional MAPPED
const DH: u32 = 64; // @const
const DV: u32 = 64; // @const
// @include "floats.wgsl"
// @include "grid.wgsl"

@group(0) @binding(0) var<storage, read> k: array<f32>;
@group(0) @binding(1) var<storage, read> v: array<f32>;
@group(0) @binding(2) var<storage, read> cuSeqlens: array<u32>;
@group(0) @binding(3) var<storage, read> geometry: array<u32>;
@group(0) @binding(4) var<storage, read> counts: array<u32>;
// @if F32
@group(0) @binding(5) var<storage, read_write> keys: array<f32>;
@group(0) @binding(6) var<storage, read_write> values: array<f32>;
// @else
@group(0) @binding(5) var<storage, read_write> keys: array<u32>;
@group(0) @binding(6) var<storage, read_write> values: array<u32>;
// @end
// @include "kv.wgsl"

// @if F32
// @else
fn packPair(pair: vec2<f32>) -> u32 {
  // @if F16
  return packF16Saturated(pair);
  // @end
  // @if BF16
  return packBf16(pair);
  // @end
}
// @end

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  const D = max(DH, DV);
  const STEP = select(1u, 2u, DH % 2u == 0u && DV % 2u == 0u);
  const PAIRS = D / STEP;
  let index = flatGroup(group, groups) * 64u + thread;
  let Hkv = geometry[KV_HEADS];
  let row = index / PAIRS;
  let token = row / Hkv;
  if (token >= cuSeqlens[arrayLength(&cuSeqlens) - 1u]) {
    return;
  }
  let head = row % Hkv;
  let d = index % PAIRS * STEP;
  let s = sequenceOf(token);
  let slot = s.keys - s.tokens + token - s.start;
  let toK = keyAt(s, s.k + head * geometry[K_STRIDES + 1u], slot) + d;
  let toV = valueAt(s, s.v + head * geometry[V_STRIDES + 1u], slot) + d;
  // @if F32
  for (var i = 0u; i < STEP; i++) {
    if (d + i < DH) {
      keys[toK + i] = k[row * DH + d + i];
    }
    if (d + i < DV) {
      values[toV + i] = v[row * DV + d + i];
    }
  }
  // @else
  if (d < DH) {
    keys[toK / 2u] = packPair(vec2<f32>(k[row * DH + d], k[row * DH + d + 1u]));
  }
  if (d < DV) {
    values[toV / 2u] = packPair(vec2<f32>(v[row * DV + d], v[row * DV + d + 1u]));
  }
  // @end
}
