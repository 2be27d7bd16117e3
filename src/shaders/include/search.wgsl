// search: where sums over tokens in the order of their keys cross a goal, found by cutting the range of keys into eight,
// again and again. The shader declares WG, keyAt(i) (NO_KEY for what is no token) and weightAt(i).
const NO_KEY: u32 = 0xffffffffu;

var<workgroup> parts: array<f32, 8 * WG>; // of the weights up to each cut, by thread
var<workgroup> weights: array<f32, 8>;
var<workgroup> bounds: vec2<u32>;

// the least key such that the tokens first + 0 .. n - 1 with keys up to it weigh `goal` or more; NO_KEY - 1 if all do not
fn crossing(goal: f32, first: u32, n: u32, thread: u32) -> u32 {
  var low = 0u; // the key is at least this
  var high = NO_KEY - 1u; // and at most this
  while (low < high) {
    let span = high - low;
    var w0 = vec4<f32>();
    var w1 = vec4<f32>();
    let size = span / 8u + 1u;
    let c0 = vec4<u32>(low) + min(vec4<u32>(span), vec4<u32>(1u, 2u, 3u, 4u) * size - 1u);
    let c1 = vec4<u32>(low) + min(vec4<u32>(span), vec4<u32>(5u, 6u, 7u, 8u) * size - 1u);
    for (var i = thread; i < n; i += WG) {
      let key = keyAt(first + i);
      if (key <= high) {
        let weight = weightAt(first + i);
        w0 += select(vec4<f32>(), vec4<f32>(weight), vec4<u32>(key) <= c0);
        w1 += select(vec4<f32>(), vec4<f32>(weight), vec4<u32>(key) <= c1);
      }
    }
    for (var j = 0u; j < 4u; j++) {
      parts[8u * thread + j] = w0[j];
      parts[8u * thread + 4u + j] = w1[j];
    }
    workgroupBarrier();
    if (thread < 8u) {
      var sum = 0.0;
      for (var t = 0u; t < WG; t++) {
        sum += parts[8u * t + thread];
      }
      weights[thread] = sum;
    }
    workgroupBarrier();
    if (thread == 0u) {
      var j = 0u;
      while (j < 7u && weights[j] < goal) {
        j++;
      }
      bounds = vec2<u32>(low + min(span, j * size), low + min(span, (j + 1u) * size - 1u));
    }
    let found = workgroupUniformLoad(&bounds);
    low = found.x;
    high = found.y;
  }
  return low;
}
