// random: 32 bits that depend on four words and nothing else, the same on every device: pcg4d of
// https://jcgt.org/published/0009/03/02/, and Gumbel noise from them.
fn pcg4d(words: vec4<u32>) -> vec4<u32> {
  var v = words * 1664525u + 1013904223u;
  for (var round = 0u; round < 2u; round++) {
    v.x += v.y * v.w;
    v.y += v.z * v.x;
    v.z += v.x * v.y;
    v.w += v.y * v.z;
    v ^= (v >> vec4<u32>(16u)) * (1u - round);
  }
  return v;
}

// -log(-log(u)) of u = 1 - (bits + 1/2) / 2^32; the largest noise comes from the least bits, where log(1 - x) is inexact
fn gumbel(bits: u32) -> f32 {
  let x = min((f32(bits) + 0.5) / 4294967296.0, 0.99999994);
  let series = x * (1.0 + x * (0.5 + x * (0.33333334 + x * 0.25)));
  return -log(select(-log(1.0 - x), series, x < 0.01));
}
