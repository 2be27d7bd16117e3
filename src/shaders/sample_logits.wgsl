// sample_logits: tokens[r] drawn from softmax(logits[r] / temperature) over what top k, top p and min p keep, in that
// order, as the argmax of (logit - largest) / temperature + Gumbel noise; 0xffffffff where no logit is finite
//
// logits   [B, n] f32 as bits; NaN counts as -infinity      params [B or 1, 8] u32 (sampling.wgsl)
// step     [B or 1] u32, the tokens drawn so far            tokens [B] u32
// grid     [B]: one workgroup a row, each thread strides n by WG
// traffic  reads a row twice, and four to eight times more for each of top k and top p: latency-bound
// paper    https://arxiv.org/abs/1611.01144 (Gumbel-max)
const WG: u32 = 64; // @const 64 256 512
// @include "grid.wgsl"
// @include "random.wgsl"
// @include "sampling.wgsl"

@group(0) @binding(0) var<storage, read> logits: array<u32>;
@group(0) @binding(1) var<storage, read> params: array<u32>;
@group(0) @binding(2) var<storage, read> step: array<u32>;
@group(0) @binding(3) var<storage, read_write> tokens: array<u32>;

var<workgroup> bestScore: atomic<u32>;
var<workgroup> bestToken: atomic<u32>;

@compute @workgroup_size(WG)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let rows = arrayLength(&tokens);
  let row = flatGroup(group, groups);
  if (row >= rows) {
    return;
  }
  let n = arrayLength(&logits) / rows;
  let kept = keptOf(row, n, thread);
  // rows that share their settings share the seed too, so they are told apart; a row with its own is the same anywhere
  let p = select(0u, 8u * row, arrayLength(&params) > 8u) + SEED;
  let stream = select(row, 0u, arrayLength(&params) > 8u);
  let key = pcg4d(vec4<u32>(params[p], params[p + 1u], step[min(row, arrayLength(&step) - 1u)], stream));
  var score = 0u;
  var token = 0xffffffffu;
  for (var i = thread; i < n; i += WG) {
    let logit = keyOf(logits[row * n + i]);
    if (logit >= kept.least) {
      let noise = gumbel(pcg4d(vec4<u32>(key.x ^ i, key.yzw)).x);
      let s = keyOf(bitcast<u32>(scaled(valueOf(logit), kept) + noise));
      if (s > score) {
        score = s;
        token = i;
      }
    }
  }
  if (thread == 0u) {
    atomicStore(&bestToken, 0xffffffffu);
  }
  atomicMax(&bestScore, score);
  workgroupBarrier();
  if (score == atomicLoad(&bestScore)) {
    atomicMin(&bestToken, token);
  }
  workgroupBarrier();
  if (thread == 0u) {
    tokens[row] = atomicLoad(&bestToken);
  }
}
