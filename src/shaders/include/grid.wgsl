// grid: a launch of n workgroups arrives as x * y >= n of them; this is the flat index, which may be past n.
fn flatGroup(group: vec3<u32>, groups: vec3<u32>) -> u32 {
  return group.y * groups.x + group.x;
}
