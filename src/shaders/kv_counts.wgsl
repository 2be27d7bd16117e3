// kv_counts: counts [2B] u32 = (past[b] - quantized[b], quantized[b])
@group(0) @binding(0) var<storage, read> past: array<u32>;
@group(0) @binding(1) var<storage, read> quantized: array<u32>;
@group(0) @binding(2) var<storage, read_write> counts: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let B = arrayLength(&past);
  if (id.x < B) {
    counts[id.x] = past[id.x] - quantized[id.x];
    counts[B + id.x] = quantized[id.x];
  }
}
