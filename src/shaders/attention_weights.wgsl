// attention_weights: p[h,t,j] = softmax_j(scale * q[t,h] . k[j,g]) over the keys j that token t may see, else 0
//
// q        [T, H, DH] f32      p  [H, T, S] f32, S at least the longest sequence      k as in attention.wgsl
// grid     [T * H]: one workgroup a query
const DH: u32 = 64; // @const
const WG: u32 = 64;
// @one-of F32 F16
// @optional PACKED
// @include "floats.wgsl"
// @include "grid.wgsl"
// @include "reduce.wgsl"

@group(0) @binding(0) var<storage, read> q: array<f32>;
// @if F32
@group(0) @binding(1) var<storage, read> k: array<f32>;
// @else
@group(0) @binding(1) var<storage, read> k: array<u32>;
// @end
@group(0) @binding(2) var<storage, read> cuSeqlens: array<u32>;
@group(0) @binding(3) var<storage, read> geometry: array<u32>;
// @if PACKED
// @else
@group(0) @binding(4) var<storage, read> past: array<u32>;
// @end
@group(0) @binding(5) var<storage, read_write> p: array<f32>;
// @include "kv.wgsl"

fn score(query: u32, at: u32) -> f32 {
  var sum = 0.0;
  for (var d = 0u; d < DH; d++) {
    // @if F32
    sum += q[query + d] * k[at + d];
    // @else
    sum += q[query + d] * unpack2x16float(k[(at + d) / 2u])[(at + d) & 1u];
    // @end
  }
  return sum;
}

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let H = geometry[0];
  let queries = arrayLength(&q) / DH; // T * H
  let S = arrayLength(&p) / queries;
  let index = flatGroup(group, groups);
  if (index >= queries) {
    return;
  }
  let token = index / H;
  let row = locate(token);
  let keys = visible(row);
  let base = row.base + (index % H) * geometry[1] / H * geometry[3];
  let scale = bitcast<f32>(geometry[6]);
  let first = ((index % H) * (queries / H) + token) * S;
  var largest = NEG;
  for (var j = thread; j < S; j += WG) {
    var s = NEG;
    if (j >= keys.x && j < keys.y) {
      s = scale * score(index * DH, base + j * geometry[4]);
    }
    p[first + j] = s;
    largest = max(largest, s);
  }
  largest = workgroupMax(largest, thread);
  var total = 0.0;
  for (var j = thread; j < S; j += WG) {
    let e = select(0.0, exp(p[first + j] - largest), j >= keys.x && j < keys.y);
    p[first + j] = e;
    total += e;
  }
  total = workgroupSum(total, thread);
  for (var j = thread; j < S; j += WG) {
    p[first + j] *= select(0.0, 1.0 / total, total > 0.0);
  }
}
