// kv_groups: which elements of a sequence's keys, flat as [Hkv, S, DH], share a scale. G is the size of a group.
const CONSECUTIVE: u32 = 0u; // runs of G elements
const CHANNEL: u32 = 1u; // G keys of one channel
const STRIDED: u32 = 2u; // the columns of a [G, n / G] matrix

fn groupOf(mode: u32, at: u32, n: u32) -> u32 {
  if (mode == CHANNEL) {
    return at % DH * (n / DH / G) + at / DH / G;
  }
  if (mode == STRIDED) {
    return at % (n / G);
  }
  return at / G;
}

// Element i of a group.
fn memberOf(mode: u32, group: u32, i: u32, n: u32) -> u32 {
  if (mode == CHANNEL) {
    let groups = n / DH / G;
    return (group % groups * G + i) * DH + group / groups;
  }
  if (mode == STRIDED) {
    return i * (n / G) + group;
  }
  return group * G + i;
}
