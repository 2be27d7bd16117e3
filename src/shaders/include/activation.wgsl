// activation: the pointwise function that the @if flag names.
// @include "activations.wgsl"

fn activate(x: f32) -> f32 {
  // @if SILU
  return silu(x);
  // @end
  // @if GELU
  return gelu(x);
  // @end
  // @if GELU_TANH
  return geluTanh(x);
  // @end
  // @if QUICK_GELU
  return x * sigmoid(1.702 * x);
  // @end
  // @if RELU
  return max(x, 0.0);
  // @end
  // @if TANH
  return safeTanh(x);
  // @end
  // @if SIGMOID
  return sigmoid(x);
  // @end
  // @if CAP
  return CAP_AT * safeTanh(x / CAP_AT);
  // @end
  // @if IDENTITY
  return x;
  // @end
}

fn activate4(v: vec4<f32>) -> vec4<f32> {
  return vec4<f32>(activate(v.x), activate(v.y), activate(v.z), activate(v.w));
}
