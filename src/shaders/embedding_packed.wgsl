// embedding_packed: y[t,d] = w[d, tokens[t]] (columns: a tied output matrix as matmul reads it) or w[tokens[t], d]
//
// tokens   [T] u32      w  [DIM, stride] or [V, stride], f32 or 16-bit floats two in a u32      y  [T, DIM] f32
// dims     (DIM, stride, number of tokens that w has, the first of them, which may be below 0,
//          with COLUMNS columns of a strip, as include/linear.wgsl has them)      a token that no w has gives zeros, which the
//          w whose first token is 0 writes; others leave the rows alone that are not theirs
// grid     a thread an element of y
// @one-of F32 F16 BF16
// @optional COLUMNS
// @include "floats.wgsl"
// @include "grid.wgsl"

@group(0) @binding(0) var<storage, read> tokens: array<u32>;
// @if F32
@group(0) @binding(1) var<storage, read> w: array<f32>;
// @else
@group(0) @binding(1) var<storage, read> w: array<u32>;
// @end
@group(0) @binding(2) var<storage, read> dims: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

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

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let index = flatGroup(group, groups) * 64u + thread;
  if (index >= arrayLength(&y)) {
    return;
  }
  let d = index % dims[0];
  let token = tokens[index / dims[0]] - dims[3]; // wraps round below the first
  let has = token < dims[2];
  if (!has && dims[3] > 0u) {
    return;
  }
  // @if COLUMNS
  let within = token % dims[4];
  let before = token - within;
  let at = before * dims[0] + d * min(dims[4], dims[1] - before) + within;
  // @else
  let at = token * dims[1] + d;
  // @end
  y[index] = select(0.0, weight(select(0u, at, has)), has);
}
