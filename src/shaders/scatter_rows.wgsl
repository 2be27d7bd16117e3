// scatter_rows: y[index[m],i] = x[m,i]; rows of y that no m names are left as they are
//
// x        [M, D] words of 32 bits      index [M] u32      y [N, D] words
// grid     [M * blocks of D]: a thread up to 4 elements of one row, each a vec4 where D divides by 4 (BY_4)
// traffic  read x, write as much: bandwidth-bound
// @optional BY_4
// @include "elem.wgsl"
// @include "grid.wgsl"

@group(0) @binding(0) var<storage, read> x: array<word>;
@group(0) @binding(1) var<storage, read> index: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<word>;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let M = arrayLength(&index);
  let D = arrayLength(&x) / M;
  let block = rowBlock(flatGroup(group, groups), D);
  if (block.row >= M || index[block.row] >= arrayLength(&y) / D) {
    return;
  }
  for (var i = block.start + thread; i < block.end; i += 64u) {
    y[index[block.row] * D + i] = x[block.row * D + i];
  }
}
