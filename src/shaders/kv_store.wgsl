// kv_store: writes the keys and values of a batch behind those that the cache holds
//
// k, v     [T, Hkv, DH] f32      keys, values  [B, Hkv, capacity, DH] f32, or f16 two in a u32 (DH even)
// grid     a thread a pair of elements of k and v
// @one-of F32 F16
const DH: u32 = 64; // @const
// @include "floats.wgsl"
// @include "grid.wgsl"

@group(0) @binding(0) var<storage, read> k: array<f32>;
@group(0) @binding(1) var<storage, read> v: array<f32>;
@group(0) @binding(2) var<storage, read> cuSeqlens: array<u32>;
@group(0) @binding(3) var<storage, read> geometry: array<u32>;
@group(0) @binding(4) var<storage, read> past: array<u32>;
// @if F32
@group(0) @binding(5) var<storage, read_write> keys: array<f32>;
@group(0) @binding(6) var<storage, read_write> values: array<f32>;
// @else
@group(0) @binding(5) var<storage, read_write> keys: array<u32>;
@group(0) @binding(6) var<storage, read_write> values: array<u32>;
// @end
// @include "kv.wgsl"

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let STEP = select(1u, 2u, DH % 2u == 0u);
  let at = (flatGroup(group, groups) * 64u + thread) * STEP; // the element of k and v
  if (at >= arrayLength(&k)) {
    return;
  }
  let Hkv = geometry[1];
  let head = at / DH % Hkv;
  let row = locate(at / DH / Hkv);
  let to = row.base + head * geometry[3] + row.slot * geometry[4] + at % DH;
  // @if F32
  for (var i = 0u; i < STEP; i++) {
    keys[to + i] = k[at + i];
    values[to + i] = v[at + i];
  }
  // @else
  keys[to / 2u] = packF16Saturated(vec2<f32>(k[at], k[at + 1u]));
  values[to / 2u] = packF16Saturated(vec2<f32>(v[at], v[at + 1u]));
  // @end
}
