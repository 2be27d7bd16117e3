// advance: past[b] += tokens of sequence b in this batch
//
// cuSeqlens [B + 1] u32      past  [B] u32
@group(0) @binding(0) var<storage, read> cuSeqlens: array<u32>;
@group(0) @binding(1) var<storage, read_write> past: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x < arrayLength(&past)) {
    past[id.x] += cuSeqlens[id.x + 1u] - cuSeqlens[id.x];
  }
}
