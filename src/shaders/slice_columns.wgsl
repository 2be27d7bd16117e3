// slice_columns: y[r,i] = x[r,start+i]
//
// x        [rows, N] words of 32 bits      y [rows, width] words
// columns, width, offset: N, width and start + 1 elements, bound for their number
// grid     [rows * blocks of width]: a thread up to 4 elements of one row
// traffic  read and write as much as y holds: bandwidth-bound
// @include "grid.wgsl"

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read> columns: array<u32>;
@group(0) @binding(2) var<storage, read> width: array<u32>;
@group(0) @binding(3) var<storage, read> offset: array<u32>;
@group(0) @binding(4) var<storage, read_write> y: array<u32>;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let D = arrayLength(&width);
  let block = rowBlock(flatGroup(group, groups), D);
  if (block.row * D >= arrayLength(&y)) {
    return;
  }
  let first = block.row * arrayLength(&columns) + arrayLength(&offset) - 1u;
  for (var i = block.start + thread; i < block.end; i += 64u) {
    y[block.row * D + i] = x[first + i];
  }
}
