// @header
// flash_attention: o[t,h] = softmax_j(score(q[t,h] . k[j,g])) v[j,g] over the keys j that token t may see, tile by tile
//
// q, o     [T, H, DH] and [T, H, DV] f32      k, v  f32, or 16 bits two in a u32, laid out as include/kv.wgsl says
// grid     [key splits, tiles of tokens, tiles of heads]: a workgroup is one subgroup and holds ROWS queries, which are
//          ROWS / PACK tokens of PACK heads that share their keys
// lanes    are keys in q . k, and fours of elements in the sum of values; what all need is shuffled, so that no workgroup
//          memory and no barrier is wanted
// traffic  a tile reads its keys and values once for ROWS queries; nothing of size T x keys is ever stored
// papers   https://arxiv.org/abs/2205.14135, https://arxiv.org/abs/2307.08691
const DH: u32 = 64; // @const
const DV: u32 = 64; // @const
const ROWS: u32 = 8; // @const
const PACK: u32 = 1; // @const
const KEYS: u32 = 2; // @const
const LANES: u32 = 8; // @const
const SPAN: u32 = 8; // @const
const HELD: u32 = 2; // @const
// @one-of F32 F16 BF16
// @one-of SUBGROUPS
// @optional BY_4 BIAS CAP SPLIT MAPPED
// @include "floats.wgsl"

// @if BY_4
@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;
// @else
@group(0) @binding(0) var<storage, read> q: array<f32>;
// @end
// @include "kv_quads.wgsl"
@group(0) @binding(3) var<storage, read> cuSeqlens: array<u32>;
@group(0) @binding(4) var<storage, read> geometry: array<u32>;
@group(0) @binding(5) var<storage, read> counts: array<u32>;
@group(0) @binding(6) var<storage, read_write> o: array<f32>;
// @if BIAS
@group(0) @binding(7) var<storage, read> bias: array<u32>;
// @end
// @include "kv.wgsl"
// @include "score.wgsl"

const TOKENS: u32 = ROWS / PACK;
const QUADS: u32 = (DV + 3) / 4;
const PARTS: u32 = LANES / SPAN; // keys whose values are added at once: SPAN lanes hold one, HELD fours each
const LEAST_PIECE: u32 = 128; // keys of a split, or more

struct Tile {
  sequence: Sequence,
  first: u32, // token of the sequence with which it begins
}

// Tile i of the batch: the tiles of sequence b begin at tile cuSeqlens[b] / TOKENS + b, and one may be left over.
fn tileAt(i: u32) -> Tile {
  if (TOKENS == 1u) {
    let s = sequenceOf(i);
    return Tile(s, i - s.start);
  }
  var low = 0u;
  var high = arrayLength(&cuSeqlens) - 2u;
  while (low < high) {
    let middle = (low + high + 1u) / 2u;
    if (cuSeqlens[middle] / TOKENS + middle <= i) {
      low = middle;
    } else {
      high = middle - 1u;
    }
  }
  let s = sequenceAt(low);
  return Tile(s, (i - s.start / TOKENS - low) * TOKENS);
}

fn queryQuad(at: u32, quad: u32) -> vec4<f32> {
  // @if BY_4
  return q[at / 4u + quad];
  // @else
  var four = vec4<f32>();
  for (var i = 0u; i < 4u; i++) {
    if (4u * quad + i < DH) {
      four[i] = q[at + 4u * quad + i];
    }
  }
  return four;
  // @end
}

fn storeQuad(at: u32, quad: u32, value: vec4<f32>) {
  for (var i = 0u; i < 4u; i++) {
    if (4u * quad + i < DV) {
      o[at + 4u * quad + i] = value[i];
    }
  }
}

@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let H = geometry[HEADS];
  let G = H / geometry[KV_HEADS];
  let chunks = (G + PACK - 1u) / PACK; // tiles of heads that share one head of keys
  let g = group.z / chunks;
  let head0 = g * G + group.z % chunks * PACK;
  let tile = tileAt(group.y);
  let s = tile.sequence;
  if (tile.first >= s.tokens) {
    return;
  }
  let tokens = min(TOKENS, s.tokens - tile.first);
  let heads = min(PACK, (g + 1u) * G - head0);
  let place = s.place + i32(tile.first); // of the first row
  let k0 = s.k + g * geometry[K_STRIDES + 1u];
  let v0 = s.v + g * geometry[V_STRIDES + 1u];
  let scale = bitcast<f32>(geometry[SCALE]);
  let before = geometry[BEFORE];
  let reach = before + geometry[AFTER];

  // what a lane knows of row `lane`, for the others to ask; rows that are not there repeat the first
  let mine = lane % ROWS;
  let myToken = select(0u, mine / PACK, mine / PACK < tokens);
  let myHead = head0 + select(0u, mine % PACK, mine % PACK < heads);
  let q0 = qAt(s, s.start + tile.first + myToken, myHead, DH);
  let slope = slopeOf(myHead);
  // @if BIAS
  let bias0 = biasAt(s, myHead) + (tile.first + myToken) * geometry[BIAS_STRIDES + 2u];
  // @end

  var start = visible(place, s.keys).x;
  let last = visible(place + i32(tokens) - 1, s.keys).y;
  var end = last;
  // @if SPLIT
  let piece = max((max(last, start) - start + groups.x - 1u) / groups.x, LEAST_PIECE);
  start = min(start + group.x * piece, last);
  end = min(start + piece, last);
  // @end

  var largest: array<f32, ROWS>;
  var total: array<f32, ROWS>;
  var sum: array<array<vec4<f32>, HELD>, ROWS>;
  let sink = select(NEG, sinkOf(myHead), group.x == 0u);
  // @unroll
  for (var r = 0u; r < ROWS; r++) {
    largest[r] = subgroupShuffle(sink, r);
    total[r] = select(0.0, 1.0, lane == 0u && largest[r] > NEG);
  }
  let zero = geometry[ZERO]; // not known to compilers, which would unroll loops whose bodies are dear to compile
  for (var j = start; j < end; j += LANES * KEYS) {
    var score = array<array<f32, KEYS>, ROWS>(); // then the weights
    var at: array<u32, KEYS>;
    // @unroll
    for (var i = 0u; i < KEYS; i++) {
      at[i] = keyAt(s, k0, min(j + i * LANES + lane, end - 1u));
    }
    for (var c = 0u; c < (DH + 3u) / 4u + zero; c++) {
      let query = queryQuad(q0, c);
      // @unroll
      for (var i = 0u; i < KEYS; i++) {
        let key = keyQuad(at[i], c);
        // @unroll
        for (var r = 0u; r < ROWS; r++) {
          score[r][i] += dot(key, subgroupShuffle(query, r));
        }
      }
    }
    // @unroll
    for (var r = 0u; r < ROWS; r++) {
      let here = place + i32(r / PACK);
      let bend = subgroupShuffle(slope, r);
      // @if BIAS
      let biasRow = subgroupShuffle(bias0, r);
      // @end
      var most = largest[r];
      // @unroll
      for (var i = 0u; i < KEYS; i++) {
        let key = j + i * LANES + lane;
        var x = score[r][i] * scale;
        // @if CAP
        x = capped(x);
        // @end
        x -= bend * abs(f32(here - i32(key)));
        // @if BIAS
        x = biased(x, biasRow + min(key, end - 1u) * geometry[BIAS_STRIDES + 3u]);
        // @end
        x = select(HIDDEN, x, key < end && u32(i32(key + before) - here) <= reach);
        score[r][i] = x;
        most = max(most, x);
      }
      most = subgroupMax(most);
      let shrink = exp(largest[r] - most);
      largest[r] = most;
      var weights = 0.0;
      // @unroll
      for (var i = 0u; i < KEYS; i++) {
        let x = score[r][i];
        let weight = select(0.0, exp(x - most), x > HIDDEN);
        score[r][i] = weight;
        weights += weight;
      }
      total[r] = total[r] * shrink + weights;
      // @unroll
      for (var n = 0u; n < HELD; n++) {
        sum[r][n] *= shrink;
      }
    }
    // @unroll
    for (var i = 0u; i < KEYS; i++) {
      let first = j + i * LANES;
      for (var turn = 0u; turn < LANES && first + turn < end; turn += PARTS) {
        let t = turn + lane / SPAN;
        let v1 = valueAt(s, v0, min(first + t, end - 1u));
        var value: array<vec4<f32>, HELD>;
        // @unroll
        for (var n = 0u; n < HELD; n++) {
          value[n] = valueQuad(v1, min(lane % SPAN + n * SPAN, QUADS - 1u));
        }
        // @unroll
        for (var r = 0u; r < ROWS; r++) {
          let weight = subgroupShuffle(score[r][i], t);
          // @unroll
          for (var n = 0u; n < HELD; n++) {
            sum[r][n] += value[n] * weight;
          }
        }
      }
    }
  }
  for (var row = 0u; row < ROWS + zero; row++) {
    var value: array<vec4<f32>, HELD>;
    var most = NEG;
    var all = 0.0;
    // @unroll
    for (var r = 0u; r < ROWS; r++) {
      most = select(most, largest[r], r == row);
      all = select(all, total[r], r == row);
      // @unroll
      for (var n = 0u; n < HELD; n++) {
        value[n] = select(value[n], sum[r][n], r == row);
      }
    }
    all = subgroupAdd(all);
    for (var step = SPAN; step < LANES; step *= 2u) {
      // @unroll
      for (var n = 0u; n < HELD; n++) {
        value[n] += subgroupShuffleXor(value[n], step);
      }
    }
    if (row / PACK < tokens && row % PACK < heads && lane < SPAN) {
      let token = s.start + tile.first + row / PACK;
      let head = head0 + row % PACK;
      // @if SPLIT
      let share = 1.0;
      let to = ((token * H + head) * groups.x + group.x) * (4u * QUADS + 2u);
      if (lane == 0u) {
        o[to + 4u * QUADS] = most;
        o[to + 4u * QUADS + 1u] = all;
      }
      // @else
      let share = select(0.0, 1.0 / all, all > 0.0); // a query that sees no key gives zeros
      let to = oAt(s, token, head, DV);
      // @end
      // @unroll
      for (var n = 0u; n < HELD; n++) {
        if (lane + n * SPAN < QUADS) {
          storeQuad(to, lane + n * SPAN, value[n] * share);
        }
      }
    }
  }
}
