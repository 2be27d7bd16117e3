// attention_product: o[t,h] = p[h,t,j] v[j,g], g = h * Hkv / H: the second half of attention that stores its weights
//
// p        [H, T, S] f32, as attention_weights makes it      v, o  as include/kv.wgsl says, o [T, H, DV] f32
// grid     a thread a four of elements, which reads all weights of its query
const DH: u32 = 64; // @const
const DV: u32 = 64; // @const
// @one-of F32 F16 BF16
// @optional BY_4 MAPPED
// @include "floats.wgsl"
// @include "grid.wgsl"

@group(0) @binding(0) var<storage, read> p: array<f32>;
// @include "kv_quads.wgsl"
@group(0) @binding(3) var<storage, read> cuSeqlens: array<u32>;
@group(0) @binding(4) var<storage, read> geometry: array<u32>;
@group(0) @binding(5) var<storage, read> counts: array<u32>;
@group(0) @binding(6) var<storage, read_write> o: array<f32>;
// @include "kv.wgsl"

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  const QUADS = (DV + 3u) / 4u;
  let H = geometry[HEADS];
  let T = cuSeqlens[arrayLength(&cuSeqlens) - 1u];
  let index = flatGroup(group, groups) * 64u + thread;
  let row = index / QUADS;
  if (row >= T * H) {
    return;
  }
  let quad = index % QUADS;
  let token = row / H;
  let head = row % H;
  let s = sequenceOf(token);
  let keys = visible(s.place + i32(token - s.start), s.keys);
  let v0 = s.v + head * geometry[KV_HEADS] / H * geometry[V_STRIDES + 1u];
  let p0 = (head * T + token) * (arrayLength(&p) / (T * H));
  var sum = vec4<f32>();
  for (var j = keys.x; j < keys.y; j++) {
    sum += p[p0 + j] * valueQuad(valueAt(s, v0, j), quad);
  }
  let to = oAt(s, token, head, DV) + 4u * quad;
  for (var i = 0u; i < min(4u, DV - 4u * quad); i++) {
    o[to + i] = sum[i];
  }
}
