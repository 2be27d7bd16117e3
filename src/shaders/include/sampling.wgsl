// sampling: which tokens of a row may be drawn, as the least order key that a kept logit has.
// The shader declares WG, `logits` [B, n] as u32 bits and `params` [B or 1, 8]: temperature, top k (0: off), top p
// (1: off), log(min p) (-200: off), seed. A threshold is found by cutting the range it lies in at 7 places, again and
// again, until it is known which tokens it parts.
const TEMPERATURE: u32 = 0u;
const TOP_K: u32 = 1u;
const TOP_P: u32 = 2u;
const LOG_MIN_P: u32 = 3u;
const SEED: u32 = 4u;
const LEAST_KEY: u32 = 0x0eb60d37u; // above that of -1e30, which stands for -infinity

struct Kept {
  least: u32, // tokens with this key or a larger one are kept
  top: f32, // the row's largest logit
  temperature: f32,
}

var<workgroup> largest: atomic<u32>;
var<workgroup> smallest: atomic<u32>;
var<workgroup> maxima: array<u32, WG>;
var<workgroup> bounds: vec2<u32>; // the range of keys in question
var<workgroup> cuts: array<u32, 9>;
var<workgroup> weights: array<f32, 9>; // of the tokens from each cut on
var<workgroup> parts: array<f32, 8 * WG>; // of the weights, by thread

// an integer that orders as the float does; 0 for NaN and -infinity; that of a large float for +infinity
fn keyOf(bits: u32) -> u32 {
  let magnitude = bits & 0x7fffffffu;
  let key = select(0x80000000u + min(magnitude, 0x7f7ffffeu), 0x80000000u - magnitude, bits > 0x80000000u);
  return select(key, 0u, magnitude > 0x7f800000u || key < LEAST_KEY);
}

fn valueOf(key: u32) -> f32 {
  return bitcast<f32>(select(0x80000000u | (0x80000000u - key), key - 0x80000000u, key >= 0x80000000u));
}

// (value - top) / temperature, at most 0; clamped to where exp() is 0 anyway, so that it is finite
fn scaled(value: f32, kept: Kept) -> f32 {
  return max(value - kept.top, -200.0 * kept.temperature) / kept.temperature;
}

// the keys of four tokens, each WG after the one before; 0 beyond the row
fn keysAt(first: u32, i: u32, n: u32) -> vec4<u32> {
  let at = vec4<u32>(i) + vec4<u32>(0u, WG, 2u * WG, 3u * WG);
  let keys = vec4<u32>(
    keyOf(logits[first + at.x]),
    keyOf(logits[first + at.y]),
    keyOf(logits[first + at.z]),
    keyOf(logits[first + at.w]),
  );
  return select(vec4<u32>(), keys, at < vec4<u32>(n));
}

// weights[0..8] from the parts that each thread has put at parts[8 thread ..]
fn addUp(thread: u32) {
  workgroupBarrier();
  var sum = 0.0;
  for (var i = thread; i < 8u * WG; i += WG) {
    sum += parts[i];
  }
  parts[thread] = sum;
  workgroupBarrier();
  if (thread < 8u) {
    var total = 0.0;
    for (var i = thread; i < WG; i += 8u) {
      total += parts[i];
    }
    weights[thread] = total;
  }
  workgroupBarrier();
}

struct Search {
  low: u32,
  hint: u32, // the key is at least this one, which is at least `low`
  high: u32,
  goal: f32,
  mass: bool, // weigh tokens by their probability instead of counting them; `goal` is then a share of those from `low` on
}

// the largest key from `low` to below `high` such that the tokens from it on weigh `goal` or more
fn threshold(search: Search, first: u32, n: u32, kept: Kept, thread: u32) -> u32 {
  var low = search.low;
  var high = search.high;
  var start = valueOf(search.hint);
  var goal = select(search.goal, 0.0, search.mass);
  if (thread == 0u) {
    weights[8] = 0.0;
  }
  while (high - low > 1u) {
    if (thread < 9u) {
      let cut = keyOf(bitcast<u32>(mix(start, valueOf(high), (f32(thread) - 1.0) / 7.0)));
      cuts[thread] = select(cut, select(low, high, thread == 8u), thread % 8u == 0u);
    }
    workgroupBarrier();
    let c0 = vec4<u32>(cuts[0], cuts[1], cuts[2], cuts[3]);
    let c1 = vec4<u32>(cuts[4], cuts[5], cuts[6], cuts[7]);
    var w0 = vec4<f32>();
    var w1 = vec4<f32>();
    for (var i = thread; i < n; i += 4u * WG) {
      let keys = keysAt(first, i, n);
      for (var j = 0u; j < 4u; j++) {
        if (keys[j] >= low) {
          let weight = vec4<f32>(select(1.0, exp(scaled(valueOf(keys[j]), kept)), search.mass));
          w0 += select(vec4<f32>(), weight, vec4<u32>(keys[j]) >= c0);
          w1 += select(vec4<f32>(), weight, vec4<u32>(keys[j]) >= c1);
        }
      }
    }
    for (var j = 0u; j < 4u; j++) {
      parts[8u * thread + j] = w0[j];
      parts[8u * thread + 4u + j] = w1[j];
    }
    addUp(thread);
    if (thread == 0u) {
      if (goal == 0.0) {
        goal = max(search.goal * weights[0], 1e-30);
      }
      var i = 7u;
      while (i > 0u && weights[i] < goal) {
        i--;
      }
      // it is enough to know which tokens are above: exactly `goal` of them, or all but one token's weight
      let least = exp(scaled(valueOf(cuts[i]), kept));
      let done = select(weights[i] == goal, weights[i] - weights[i + 1u] < 1.5 * least, search.mass);
      bounds = vec2<u32>(cuts[i], select(cuts[i + 1u], cuts[i] + 1u, done));
      weights[8] = weights[i + 1u];
    }
    let found = workgroupUniformLoad(&bounds);
    low = found.x;
    high = found.y;
    start = valueOf(low);
  }
  return low;
}

// a key that at least k tokens reach, if k is no more than the threads, each of which knows the largest of its tokens
fn hintOf(key: u32, k: u32, thread: u32) -> u32 {
  maxima[thread] = key;
  if (thread == 0u) {
    atomicStore(&largest, LEAST_KEY);
  }
  workgroupBarrier();
  var reached = 0u;
  for (var i = 0u; i < WG; i++) {
    reached += u32(maxima[i] >= key);
  }
  if (reached >= k) {
    atomicMax(&largest, key);
  }
  workgroupBarrier();
  if (thread == 0u) {
    bounds.x = select(atomicLoad(&largest), atomicLoad(&smallest), k > WG);
  }
  return workgroupUniformLoad(&bounds).x;
}

fn keptOf(row: u32, n: u32, thread: u32) -> Kept {
  let first = row * n;
  let p = select(0u, 8u * row, arrayLength(&params) > 8u);
  var most = 0u;
  var least = 0xffffffffu;
  for (var i = thread; i < n; i += 4u * WG) {
    let keys = keysAt(first, i, n);
    let real = select(keys, vec4<u32>(0xffffffffu), keys == vec4<u32>());
    most = max(most, max(max(keys.x, keys.y), max(keys.z, keys.w)));
    least = min(least, min(min(real.x, real.y), min(real.z, real.w)));
  }
  if (thread == 0u) {
    atomicStore(&smallest, 0xffffffffu);
  }
  workgroupBarrier();
  atomicMax(&largest, most);
  atomicMin(&smallest, least);
  workgroupBarrier();
  if (thread == 0u) {
    bounds = vec2<u32>(atomicLoad(&smallest), atomicLoad(&largest));
  }
  let extremes = workgroupUniformLoad(&bounds);
  var kept = Kept(LEAST_KEY, valueOf(extremes.y), bitcast<f32>(params[p + TEMPERATURE]));
  let high = max(extremes.y + 1u, LEAST_KEY);
  let k = params[p + TOP_K];
  let share = bitcast<f32>(params[p + TOP_P]);
  for (var stage = 0u; stage < 2u; stage++) {
    var search = Search(kept.least, 0u, high, share, true);
    if (stage == 0u && k > 0u && k < n) {
      search = Search(kept.least, hintOf(most, k, thread), high, f32(k), false);
    } else if (stage == 1u && share < 1.0) {
      // all tokens below `far` together weigh less than what top p may drop
      let far = kept.top + kept.temperature * log((1.0 - share) / f32(n));
      search.hint = max(kept.least, keyOf(bitcast<u32>(far)));
    } else {
      continue;
    }
    kept.least = threshold(search, first, n, kept, thread);
  }
  let likely = bitcast<f32>(params[p + LOG_MIN_P]);
  if (likely > -200.0) {
    kept.least = max(kept.least, keyOf(bitcast<u32>(kept.top + kept.temperature * likely)));
  }
  return kept;
}
