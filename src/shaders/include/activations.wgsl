// activations: the pointwise functions of transformers; none of them overflows.
fn erf(x: f32) -> f32 { // Abramowitz and Stegun 7.1.26, error below 1.5e-7
  let a = min(abs(x), 9.0);
  let t = 1.0 / (1.0 + 0.3275911 * a);
  let p = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return sign(x) * (1.0 - p * exp(-a * a));
}

fn safeTanh(x: f32) -> f32 {
  return tanh(clamp(x, -9.01, 9.01)); // beyond, tanh is ±1 in f32 and exp() inside it may overflow
}

fn sigmoid(x: f32) -> f32 {
  let s = 1.0 / (1.0 + exp(-clamp(x, -87.0, 87.0)));
  return select(0.0, s, x > -87.0); // not the 1e-38 there, which times a huge x is something again
}

fn silu(x: f32) -> f32 {
  return x * sigmoid(x);
}

fn gelu(x: f32) -> f32 {
  return 0.5 * x * (1.0 + erf(x * 0.7071067811865476));
}

fn geluTanh(x: f32) -> f32 {
  let c = clamp(x, -10.0, 10.0);
  return 0.5 * x * (1.0 + safeTanh(0.7978845608028654 * (c + 0.044715 * c * c * c)));
}
