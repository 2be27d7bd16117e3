/**
 * Hamming diversity of group beam search (semantics: G-39).
 *
 * @module
 */
import { ValueError } from "../../errors.ts";
import type { ProcessorOf } from "./processor.ts";

/**
 * `diversityPenalty`: what a token loses for each earlier group of its prompt that chose it in this step. Needs
 * `currentTokens` and `groupIndex` of the step; the rows are those of one group.
 *
 * @throws {ValueError} if there are fewer than two groups, or fewer beams than groups
 */
export const hammingDiversity: ProcessorOf = ({ diversityPenalty, numBeams, numBeamGroups }, c) => {
  if (diversityPenalty === 0) return;
  if (numBeams < 2) throw new ValueError("`numBeams` should be an integer strictly larger than 1.");
  if (numBeamGroups < 2) throw new ValueError("`numBeamGroups` should be an integer strictly larger than 1.");
  if (numBeamGroups > numBeams) throw new ValueError("`beamGroups` has to be smaller or equal to `numBeams`.");
  const size = Math.floor(numBeams / numBeamGroups);
  return {
    name: "diversityPenalty",
    host: (ids, scores, { currentTokens = [], groupIndex = 0 } = {}) => {
      const first = groupIndex * size, rows = Math.min(size, numBeams - first);
      for (let r = 0; r < ids.length; r++) {
        const start = Math.floor(r / rows) * numBeams;
        for (const token of currentTokens.slice(start, start + first)) {
          scores[r * c.vocabSize + token]! -= diversityPenalty;
        }
      }
    },
  };
};
