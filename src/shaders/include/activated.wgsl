// activated: the activation of a linear layer, which an override names: one pipeline text for all of them.
override ACTIVATION: u32 = 0u;
// @include "activations.wgsl"

fn activated(x: f32) -> f32 {
  switch ACTIVATION {
    case 1u: {
      return silu(x);
    }
    case 2u: {
      return gelu(x);
    }
    case 3u: {
      return geluTanh(x);
    }
    case 4u: {
      return max(x, 0.0);
    }
    case 5u: {
      return safeTanh(x);
    }
    default: {
      return x;
    }
  }
}

fn activated4(v: vec4<f32>) -> vec4<f32> {
  return vec4<f32>(activated(v.x), activated(v.y), activated(v.z), activated(v.w));
}
