// transpose: y[n,m] = x[m,n]
//
// x        [M, N] words of 32 bits      y [N, M] words      columns: N elements, bound for their number
// grid     [tiles of 32 x 32]: a thread 4 x 4 elements, so that whole cache lines are read and written by a workgroup
// traffic  read x, write y: bandwidth-bound
const TILE: u32 = 32u;
// @include "grid.wgsl"

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read> columns: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;

@compute @workgroup_size(8, 8)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_id) thread: vec3<u32>,
) {
  let N = arrayLength(&columns);
  let M = arrayLength(&x) / N;
  let across = (N + TILE - 1u) / TILE;
  let tile = flatGroup(group, groups);
  let m0 = tile / across * TILE + 4u * thread.y;
  let n0 = tile % across * TILE + 4u * thread.x;
  for (var m = m0; m < min(m0 + 4u, M); m++) {
    for (var n = n0; n < min(n0 + 4u, N); n++) {
      y[n * M + m] = x[m * N + n];
    }
  }
}
