// embedding_packed: y[t,d] = w[d, tokens[t]] (columns: a tied output matrix as matmul reads it) or w[tokens[t], d]
//
// tokens   [T] u32      w  [DIM, stride] or [V, stride], f32 or 16-bit floats two in a u32      y  [T, DIM] f32
// dims     (DIM, stride, number of tokens that w has, the first of them, which may be below 0,
//          with COLUMNS columns of a strip, see include/strips.wgsl)      a token that no w has gives zeros, which the
//          w whose first token is 0 writes; others leave the rows alone that are not theirs
// grid     [T * blocks of DIM]: a workgroup 256 elements of one row, each a vec4 where DIM divides by 4 (BY_4)
const WG: u32 = 64; // @const 64 8
// @one-of F32 F16 BF16
// @optional COLUMNS BY_4
// @include "elem.wgsl"
// @include "floats.wgsl"
// @include "grid.wgsl"
// @include "strips.wgsl"

@group(0) @binding(0) var<storage, read> tokens: array<u32>;
// @if F32
@group(0) @binding(1) var<storage, read> w: array<f32>;
// @else
@group(0) @binding(1) var<storage, read> w: array<u32>;
// @end
@group(0) @binding(2) var<storage, read> dims: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<cell>;

fn weight(at: u32) -> f32 {
  // @if F32
  return w[at];
  // @end
  // @if F16
  return unpack2x16float(w[at / 2u])[at & 1u];
  // @end
  // @if BF16
  return unpackBf16(w[at / 2u])[at & 1u];
  // @end
}

// Numbers of a row of y from `at` on, `step` apart in w.
fn weights(at: u32, step: u32) -> elem {
  // @if BY_4
  return vec4<f32>(weight(at), weight(at + step), weight(at + 2u * step), weight(at + 3u * step));
  // @else
  return weight(at);
  // @end
}

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let D = dims[0] / LANES;
  let block = rowBlock(flatGroup(group, groups), D);
  if (block.row >= arrayLength(&tokens)) {
    return;
  }
  let token = tokens[block.row] - dims[3]; // wraps round below the first
  let has = token < dims[2];
  if (!has && dims[3] > 0u) {
    return;
  }
  // @if COLUMNS
  let place = inStrips(token, dims[4], dims[1], dims[0]);
  // @else
  let place = vec2<u32>(token * dims[1], 1u);
  // @end
  for (var i = block.start + thread; i < block.end; i += WG) {
    var value = elem();
    if (has) {
      value = weights(place.x + LANES * i * place.y, place.y);
    }
    y[block.row * D + i] = put(value);
  }
}
