// pack_tile: w[k, column + i] = weight[i, k], converted to the target's dtype, where all sizes divide by 4
//
// x        [rows, cols] f32, or 16-bit floats two in a u32: a piece of a weight as checkpoints hold it
// w        [cols, N4 * 4] f32, or 16-bit floats two in a u32: what matmul reads
// params   as pack_weight's
// grid     a thread turns a tile of 4 x 4, a workgroup 8 x 8 of them, so that what it touches stays in a CPU's first cache
// traffic  read and write each element once: bandwidth-bound
// @one-of X_F32 X_F16 X_BF16
// @one-of F32 F16 BF16
// @include "target_bits.wgsl"
// @include "grid.wgsl"

// @if X_F32
alias stored = vec4<u32>;
// @else
alias stored = vec2<u32>;
// @end
// @if F32
alias packed = vec4<u32>;
// @else
alias packed = vec2<u32>;
// @end

@group(0) @binding(0) var<storage, read> x: array<stored>;
@group(0) @binding(1) var<storage, read> params: array<u32>;
@group(0) @binding(2) var<storage, read_write> w: array<packed>;

// Four elements of x in the bits of the target's dtype.
fn quad(at: u32) -> vec4<u32> {
  let word = x[at];
  // @if X_F32
  let bits = word;
  // @else
  let bits = vec4<u32>(word.x & 0xffffu, word.x >> 16u, word.y & 0xffffu, word.y >> 16u);
  // @end
  return vec4<u32>(targetBits(bits.x), targetBits(bits.y), targetBits(bits.z), targetBits(bits.w));
}

fn joined(a: u32, b: u32, c: u32, d: u32) -> packed {
  // @if F32
  return packed(a, b, c, d);
  // @else
  return packed(a | (b << 16u), c | (d << 16u));
  // @end
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let cols = params[0] / 4u;
  let depth = params[5] / 4u;
  let blocks = (depth + 7u) / 8u;
  let block = flatGroup(group, groups);
  let k = block % blocks * 8u + thread / 8u;
  let i = block / blocks * 8u + thread % 8u;
  if (k >= depth || i >= params[4] / 4u) {
    return;
  }
  let at = (params[6] + 4u * i) * cols + params[7] / 4u + k;
  let a = quad(at);
  let b = quad(at + cols);
  let c = quad(at + 2u * cols);
  let d = quad(at + 3u * cols);
  let column = params[2] / 4u + i;
  let within = column % (params[8] / 4u);
  let before = column - within;
  let stride = min(params[8], params[1] - 4u * before) / 4u;
  let to = before * params[9] + (params[3] + 4u * k) * stride + within;
  w[to] = joined(a.x, b.x, c.x, d.x);
  w[to + stride] = joined(a.y, b.y, c.y, d.y);
  w[to + 2u * stride] = joined(a.z, b.z, c.z, d.z);
  w[to + 3u * stride] = joined(a.w, b.w, c.w, d.w);
}
