// ring_plan: what a ring shows to a batch: shown[b] keys before it, and turned[b] = how far the ring is turned
//
// past     [B] u32: tokens that the sequence has had      cuSeqlens [B + 1] u32
// ring     [window, staying, length, 1 if a batch's tokens count in the window]      counts [>= 2 B] u32: shown, turned
@group(0) @binding(0) var<storage, read> past: array<u32>;
@group(0) @binding(1) var<storage, read> cuSeqlens: array<u32>;
@group(0) @binding(2) var<storage, read> ring: array<u32>;
@group(0) @binding(3) var<storage, read_write> counts: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let B = arrayLength(&past);
  if (id.x >= B) {
    return;
  }
  let before = past[id.x];
  let tokens = select(1u, cuSeqlens[id.x + 1u] - cuSeqlens[id.x], ring[3] == 1u);
  let shown = min(before, ring[0] - min(ring[0], tokens));
  counts[id.x] = shown;
  counts[B + id.x] = (before - shown) % ring[2];
}
