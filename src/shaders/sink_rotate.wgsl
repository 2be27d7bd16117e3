// sink_rotate: keys that stay at the front move on with the window, so that their distance to it stays the same
//
// Sink i of a sequence whose window has left E tokens behind stands at position i + E: keys = R(E) raw, where raw is the
// key as it was stored, at position i.
// keys     pages of 64, as include/kv.wgsl says      raw [B, Hkv, SINKS, DH] of the same dtype
// past, cuSeqlens, counts  as ring_plan.wgsl      ring [window, SINKS, length, 1]      table [P, 2, HALF] f32
// grid     a thread a word of raw
// paper    https://arxiv.org/abs/2309.17453
// @one-of F32 F16
// @optional INTERLEAVED DRIFT
const DH: u32 = 64; // @const
const HALF: u32 = 32; // @const
// @include "floats.wgsl"
// @include "grid.wgsl"

@group(0) @binding(0) var<storage, read_write> keys: array<u32>;
@group(0) @binding(1) var<storage, read_write> raw: array<u32>;
@group(0) @binding(2) var<storage, read> past: array<u32>;
@group(0) @binding(3) var<storage, read> cuSeqlens: array<u32>;
@group(0) @binding(4) var<storage, read> counts: array<u32>;
@group(0) @binding(5) var<storage, read> ring: array<u32>;
@group(0) @binding(6) var<storage, read> table: array<f32>;

// @if F32
const PER: u32 = 1u; // elements of a word
// @else
const PER: u32 = 2u;
// @end

fn element(row: u32, d: u32) -> f32 {
  // @if F32
  return bitcast<f32>(raw[row * DH + d]);
  // @else
  return unpack2x16float(raw[(row * DH + d) / 2u])[d & 1u];
  // @end
}

fn turned(row: u32, d: u32, left: u32) -> f32 {
  if (d >= 2u * HALF) {
    return element(row, d);
  }
  // @if INTERLEAVED
  let pair = d / 2u;
  let second = (d & 1u) == 1u;
  let other = element(row, d ^ 1u);
  // @else
  let pair = d % HALF;
  let second = d >= HALF;
  let other = element(row, select(d + HALF, d - HALF, second));
  // @end
  let factor = table[0]; // the cosine of 0, times what the table is multiplied by
  let cosine = table[2u * left * HALF + pair] / factor;
  let sine = table[(2u * left + 1u) * HALF + pair] / factor;
  return element(row, d) * cosine + select(-other, other, second) * sine;
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let index = flatGroup(group, groups) * 64u + thread;
  if (index >= arrayLength(&raw)) {
    return;
  }
  let B = arrayLength(&past);
  let sinks = ring[1];
  let row = index / (DH / PER);
  let d = index % (DH / PER) * PER;
  let Hkv = arrayLength(&raw) * PER / (DH * sinks * B);
  let b = row / (Hkv * sinks);
  let sink = row % sinks;
  let P = arrayLength(&counts) / B - 2u;
  let page = counts[2u * B + b * P + sink / 64u];
  let at = ((page * Hkv + row / sinks % Hkv) * 64u + sink % 64u) * (DH / PER) + d / PER;
  let before = past[b];
  let all = before + cuSeqlens[b + 1u] - cuSeqlens[b];
  if (sink >= all) {
    return;
  }
  if (sink >= before) {
    raw[index] = keys[at];
    return;
  }
  var left = all - min(all, ring[0]);
  // @if DRIFT
  left += select(0u, 1u, all >= ring[0]); // Transformers 4.46 rotates once more than it drops
  // @end
  // @if F32
  keys[at] = bitcast<u32>(turned(row, d, left));
  // @else
  keys[at] = packF16Saturated(vec2<f32>(turned(row, d, left), turned(row, d + 1u, left)));
  // @end
}
