// attention_merge: o = sum_i w[i] o[i] / sum_i w[i] l[i], w[i] = exp(m[i] - max m), over the splits i of a query's keys
//
// parts    [T, H, SPLITS, DV4 + 2] f32: values not yet divided (DV4: DV rounded up to fours), greatest score m, sum l
// o        [T, H, DV] f32, or as include/kv.wgsl says
// grid     a thread a four of elements
const DV: u32 = 64; // @const
// @include "floats.wgsl"
// @include "grid.wgsl"

@group(0) @binding(0) var<storage, read> parts: array<f32>;
@group(0) @binding(1) var<storage, read> cuSeqlens: array<u32>;
@group(0) @binding(2) var<storage, read> geometry: array<u32>;
@group(0) @binding(3) var<storage, read> counts: array<u32>;
@group(0) @binding(4) var<storage, read_write> o: array<f32>;
// @include "kv.wgsl"

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  const QUADS = (DV + 3u) / 4u;
  const PART = 4u * QUADS + 2u;
  let H = geometry[HEADS];
  let T = cuSeqlens[arrayLength(&cuSeqlens) - 1u];
  let index = flatGroup(group, groups) * 64u + thread;
  let row = index / QUADS;
  if (row >= T * H) {
    return;
  }
  let splits = arrayLength(&parts) / (T * H * PART);
  let quad = index % QUADS;
  var largest = NEG;
  var total = 0.0;
  var sum = vec4<f32>();
  for (var i = 0u; i < splits; i++) {
    let at = (row * splits + i) * PART;
    let l = parts[at + 4u * QUADS + 1u];
    if (l > 0.0) {
      let m = parts[at + 4u * QUADS];
      let most = max(largest, m);
      let shrink = exp(largest - most);
      let weight = exp(m - most);
      let e = at + 4u * quad;
      sum = sum * shrink + weight * vec4<f32>(parts[e], parts[e + 1u], parts[e + 2u], parts[e + 3u]);
      total = total * shrink + weight * l;
      largest = most;
    }
  }
  sum *= select(0.0, 1.0 / total, total > 0.0); // a query that sees no key gives zeros
  let token = row / H;
  let to = oAt(sequenceOf(token), token, row % H, DV) + 4u * quad;
  for (var i = 0u; i < min(4u, DV - 4u * quad); i++) {
    o[to + i] = sum[i];
  }
}
