// emit_tokens: the end of a decode step: chosen tokens become the next input, and are kept for the host to read
//
// chosen   [B] u32      logits  [B, V] f32      settings  (pad token, rows of ring, tokens that end a row …)
// changes  tokens, positions, done [B] u32; ring [N, B] u32; step [1] u32
// grid     one workgroup; a token whose logit is not finite is written as 0xffffffff, which the host takes for an error
@group(0) @binding(0) var<storage, read> chosen: array<u32>;
@group(0) @binding(1) var<storage, read> logits: array<u32>;
@group(0) @binding(2) var<storage, read> settings: array<u32>;
@group(0) @binding(3) var<storage, read_write> tokens: array<u32>;
@group(0) @binding(4) var<storage, read_write> positions: array<u32>;
@group(0) @binding(5) var<storage, read_write> done: array<u32>;
@group(0) @binding(6) var<storage, read_write> ring: array<u32>;
@group(0) @binding(7) var<storage, read_write> step: array<u32>;

const INVALID: u32 = 0xffffffffu;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) thread: u32) {
  let B = arrayLength(&tokens);
  let V = arrayLength(&logits) / B;
  let slot = step[0] % settings[1];
  for (var b = thread; b < B; b += 64u) {
    var token = chosen[b];
    if (token >= V || (logits[b * V + min(token, V - 1u)] & 0x7f800000u) == 0x7f800000u) {
      token = INVALID;
    }
    if (done[b] == 1u) {
      token = settings[0];
    }
    for (var i = 2u; i < arrayLength(&settings); i++) {
      if (token == settings[i]) {
        done[b] = 1u;
      }
    }
    ring[slot * B + b] = token;
    tokens[b] = select(token, 0u, token == INVALID);
    positions[b] += 1u;
  }
  storageBarrier();
  workgroupBarrier();
  if (thread == 0u) {
    step[0] += 1u;
  }
}
