// @header
// quantized_attention_subgroup: what quantized_attention.wgsl computes where runs of elements share a scale, by subgroups
//
// q, o     [T, H, DH] f32, SPLIT parts as attention_merge.wgsl has them      words  include/kv_codes.wgsl
// rest     [2, B, HKV, R, DH] f32, or f16 two in a u32: the keys and values that are not quantized yet
// counts   [2B]: keys in rest before this batch, keys in codes
// grid     [key splits, T, tiles of heads]: a workgroup is one subgroup and holds ROWS heads of a token, which read the
//          same keys
// lanes    are keys in q . k, and words of codes, FOURS fours of elements, in the sum of values, where SPAN lanes hold one
//          value, HELD words each; what all need is shuffled
// traffic  codes, scales and the rest are read once for ROWS heads
// papers   https://arxiv.org/abs/2402.02750, https://arxiv.org/abs/2205.14135
const DH: u32 = 64; // @const
const ROWS: u32 = 4; // @const
const KEYS: u32 = 2; // @const
const LANES: u32 = 8; // @const
const HALVINGS: u32 = 3; // @const
const SPAN: u32 = 8; // @const
const HELD: u32 = 1; // @const
const BITS: u32 = 4; // @const
const FOURS: u32 = 2; // @const
const RUN: u32 = 64; // @const
// @one-of F32 F16
// @one-of SUBGROUPS
// @optional WIDE CAP SPLIT
override H: u32 = 8;
override HKV: u32 = 2;
override G: u32 = 64;
override SCALE: f32 = 0.125;
override SOFTCAP: f32 = 50.0;
override WINDOW: u32 = 0;
// @include "floats.wgsl"
// @include "kv_groups.wgsl"
// @include "lanes.wgsl"

@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> words: array<u32>;
// @if F32
@group(0) @binding(2) var<storage, read> rest: array<vec4<f32>>;
// @else
@group(0) @binding(2) var<storage, read> rest: array<vec2<u32>>;
// @end
@group(0) @binding(3) var<storage, read> cuSeqlens: array<u32>;
@group(0) @binding(4) var<storage, read> counts: array<u32>;
@group(0) @binding(5) var<storage, read_write> o: array<f32>;
// @include "kv_codes.wgsl"

const WORDS: u32 = DH * BITS / 32; // of a key
const RUN_WORDS: u32 = RUN * BITS / 32;
const PARTS: u32 = LANES / SPAN; // keys whose values are added at once
const LEAST_PIECE: u32 = 128; // keys of a split, but of the last

// Four codes of a word: signed numbers are quicker to convert.
fn codesOf(word: u32, four: u32) -> vec4<f32> {
  let bits = vec4<u32>(word) >> ((vec4<u32>(0u, 1u, 2u, 3u) + 4u * four) * BITS);
  return vec4<f32>(vec4<i32>(bits & vec4<u32>((1u << BITS) - 1u)));
}

fn restFour(at: u32) -> vec4<f32> {
  // @if F32
  return rest[at];
  // @else
  let pair = rest[at];
  return vec4<f32>(unpack2x16float(pair.x), unpack2x16float(pair.y));
  // @end
}

@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let B = arrayLength(&cuSeqlens) - 1u;
  let token = group.y;
  if (token >= cuSeqlens[B]) {
    return;
  }
  var b = 0u;
  for (var i = 1u; i < B; i++) {
    b = select(b, i, cuSeqlens[i] <= token);
  }
  let chunks = (H / HKV + ROWS - 1u) / ROWS;
  let g = group.z / chunks;
  let chunk = group.z % chunks * ROWS; // heads of the group before these
  let head = g * (H / HKV) + chunk;
  let heads = min(ROWS, H / HKV - chunk);
  let quantized = counts[B + b];
  let place = quantized + counts[b] + token - cuSeqlens[b]; // the query's own key
  var start = select(0u, place + 1u - min(place + 1u, WINDOW), WINDOW > 0u);
  var last = place + 1u;
  // @if SPLIT
  let piece = max((last - start + groups.x - 1u) / groups.x, LEAST_PIECE);
  start = min(start + group.x * piece, last);
  last = min(start + piece, last);
  // @end
  let span = spanOf(b);
  let keys = partOf(0u, span);
  let values = partOf(1u, span);
  let first = g * span.length; // keys of the heads before
  let R = arrayLength(&rest) * 4u / (2u * B * HKV * DH);
  let kRest = ((b * HKV + g) * R - quantized) * (DH / 4u); // wraps, and back again for keys in rest
  let vRest = kRest + B * HKV * R * (DH / 4u);
  let mine = (token * H + head + min(lane % ROWS, heads - 1u)) * (DH / 4u); // of one row, for the others to ask
  let zero = words[2] - DH; // not known to compilers, which would unroll loops whose bodies are dear to compile
  var largest: array<f32, ROWS>;
  var total: array<f32, ROWS>;
  var sum: array<array<array<vec4<f32>, FOURS>, HELD>, ROWS>;
  // @unroll
  for (var r = 0u; r < ROWS; r++) {
    largest[r] = NEG;
  }
  var end = 0u;
  for (var j = start; j < last; j = min(end, j + LANES * KEYS)) {
    let coded = j < quantized;
    end = select(last, min(last, quantized), coded); // a step lies in the codes or behind them
    var score = array<array<f32, KEYS>, ROWS>(); // then the weights
    var at: array<u32, KEYS>;
    // @unroll
    for (var i = 0u; i < KEYS; i++) {
      at[i] = min(j + i * LANES + lane, end - 1u);
    }
    if (coded) {
      for (var run = 0u; run < DH / RUN + zero; run++) {
        var dots = array<array<f32, KEYS>, ROWS>();
        var whole = 0.0; // of the query's run: what the offset is multiplied by
        for (var w = run * RUN_WORDS; w < (run + 1u) * RUN_WORDS; w++) {
          var word: array<u32, KEYS>;
          // @unroll
          for (var i = 0u; i < KEYS; i++) {
            word[i] = words[keys.codes + (first + at[i]) * WORDS + w];
          }
          // @unroll
          for (var f = 0u; f < FOURS; f++) {
            let query = q[mine + w * FOURS + f];
            whole += dot(query, vec4<f32>(1.0));
            var code: array<vec4<f32>, KEYS>;
            // @unroll
            for (var i = 0u; i < KEYS; i++) {
              code[i] = codesOf(word[i], f);
            }
            // @unroll
            for (var r = 0u; r < ROWS; r++) {
              let asked = subgroupShuffle(query, r);
              // @unroll
              for (var i = 0u; i < KEYS; i++) {
                dots[r][i] += dot(code[i], asked);
              }
            }
          }
        }
        // @unroll
        for (var i = 0u; i < KEYS; i++) {
          let pair = pairAt(keys.scales + ((first + at[i]) * DH + run * RUN) / G * PER_GROUP);
          // @unroll
          for (var r = 0u; r < ROWS; r++) {
            score[r][i] += dots[r][i] * pair.x + subgroupShuffle(whole, r) * pair.y;
          }
        }
      }
    } else {
      for (var c = 0u; c < DH / 4u + zero; c++) {
        let query = q[mine + c];
        // @unroll
        for (var i = 0u; i < KEYS; i++) {
          let key = restFour(kRest + at[i] * (DH / 4u) + c);
          // @unroll
          for (var r = 0u; r < ROWS; r++) {
            score[r][i] += dot(key, subgroupShuffle(query, r));
          }
        }
      }
    }
    // @unroll
    for (var r = 0u; r < ROWS; r++) {
      var most = largest[r];
      // @unroll
      for (var i = 0u; i < KEYS; i++) {
        var x = score[r][i] * SCALE;
        // @if CAP
        x = SOFTCAP * tanh(clamp(x / SOFTCAP, -9.01, 9.01));
        // @end
        score[r][i] = select(NEG, x, j + i * LANES + lane < end);
        most = max(most, score[r][i]);
      }
      most = greatestOfLanes(most);
      let shrink = exp(largest[r] - most);
      largest[r] = most;
      total[r] *= shrink;
      // @unroll
      for (var i = 0u; i < KEYS; i++) {
        score[r][i] = select(0.0, exp(score[r][i] - most), j + i * LANES + lane < end);
        total[r] += score[r][i];
      }
      // @unroll
      for (var n = 0u; n < HELD; n++) {
        // @unroll
        for (var f = 0u; f < FOURS; f++) {
          sum[r][n][f] *= shrink;
        }
      }
    }
    // @unroll
    for (var i = 0u; i < KEYS; i++) {
      let begin = j + i * LANES;
      for (var turn = 0u; turn < LANES && begin + turn < end; turn += PARTS) {
        let key = turn + lane / SPAN;
        let held = min(begin + key, end - 1u);
        // @unroll
        for (var n = 0u; n < HELD; n++) {
          let w = min(lane % SPAN + n * SPAN, WORDS - 1u);
          var value: array<vec4<f32>, FOURS>;
          if (coded) {
            let word = words[values.codes + (first + held) * WORDS + w];
            let pair = pairAt(values.scales + ((first + held) * DH + w * 4u * FOURS) / G * PER_GROUP);
            // @unroll
            for (var f = 0u; f < FOURS; f++) {
              value[f] = codesOf(word, f) * pair.x + pair.y;
            }
          } else {
            // @unroll
            for (var f = 0u; f < FOURS; f++) {
              value[f] = restFour(vRest + held * (DH / 4u) + w * FOURS + f);
            }
          }
          // @unroll
          for (var r = 0u; r < ROWS; r++) {
            let weight = subgroupShuffle(score[r][i], key);
            // @unroll
            for (var f = 0u; f < FOURS; f++) {
              sum[r][n][f] += value[f] * weight;
            }
          }
        }
      }
    }
  }
  // @unroll
  for (var r = 0u; r < ROWS; r++) {
    let all = subgroupAdd(total[r]);
    // @if SPLIT
    let share = 1.0;
    let to = ((token * H + head + r) * groups.x + group.x) * (DH + 2u);
    if (lane == 0u && r < heads) {
      o[to + DH] = largest[r];
      o[to + DH + 1u] = all;
    }
    // @else
    let share = select(0.0, 1.0 / all, all > 0.0);
    let to = (token * H + head + r) * DH;
    // @end
    // @unroll
    for (var n = 0u; n < HELD; n++) {
      let w = lane % SPAN + n * SPAN;
      // @unroll
      for (var f = 0u; f < FOURS; f++) {
        var value = sum[r][n][f];
        for (var step = SPAN; step < LANES; step *= 2u) {
          value += subgroupShuffleXor(value, step);
        }
        if (lane < SPAN && w < WORDS && r < heads) {
          // @unroll
          for (var e = 0u; e < 4u; e++) {
            o[to + (w * FOURS + f) * 4u + e] = value[e] * share;
          }
        }
      }
    }
  }
}
