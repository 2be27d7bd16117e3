// int8_outliers: a bit for each column of x in which any number reaches the threshold
//
// x        [M, K] f32 as u32      q  [K/32] bits at first      dims = (K, threshold as f32 bits)
// grid     [K/32]: a workgroup a word, a thread a column
// traffic  read x once: bandwidth-bound
@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read> dims: array<u32>;
@group(0) @binding(2) var<storage, read_write> q: array<u32>;
var<workgroup> bits: atomic<u32>;
// @include "grid.wgsl"

@compute @workgroup_size(32)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) i: u32,
) {
  let K = dims[0];
  let word = flatGroup(group, groups);
  let k = 32u * word + i;
  if (k < K) {
    var most = 0u;
    for (var at = k; at < arrayLength(&x); at += K) {
      most = max(most, x[at] & 0x7fffffffu); // sizes order as their bits do, and NaN is above all
    }
    if (most >= dims[1]) {
      atomicOr(&bits, 1u << i);
    }
  }
  workgroupBarrier();
  if (i == 0u && 32u * word < K) {
    q[word] = atomicLoad(&bits);
  }
}
