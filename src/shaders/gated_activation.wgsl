// gated_activation: y[r,i] = act(x[r,i]) * x[r,I+i]
//
// x        [rows, 2 * I] f32: the gate's half, then the other      y [rows, I] f32
// width    I elements, bound for their number
// grid     [rows * blocks of I]: a workgroup 256 elements of one row, each a vec4 where I divides by 4 (BY_4)
// traffic  read x, write y: bandwidth-bound
// paper    https://arxiv.org/abs/2002.05202
const WG: u32 = 64; // @const 64 8
// @one-of SILU GELU GELU_TANH QUICK_GELU RELU TANH SIGMOID IDENTITY
// @optional BY_4
// @include "elem.wgsl"
// @include "grid.wgsl"
// @include "activation.wgsl"

@group(0) @binding(0) var<storage, read> x: array<cell>;
@group(0) @binding(1) var<storage, read> width: array<cell>;
@group(0) @binding(2) var<storage, read_write> y: array<cell>;

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let I = arrayLength(&width);
  let block = rowBlock(flatGroup(group, groups), I);
  if (block.row * I >= arrayLength(&y)) {
    return;
  }
  let gate = block.row * 2u * I;
  for (var i = block.start + thread; i < block.end; i += WG) {
    // @if BY_4
    y[block.row * I + i] = put(activate4(taken(x[gate + i])) * taken(x[gate + I + i]));
    // @else
    y[block.row * I + i] = activate(x[gate + i]) * x[gate + I + i];
    // @end
  }
}
