/**
 * The WGSL texts that `// @include` knows, by file name.
 *
 * @module
 */
import activated from "./activated.wgsl" with { type: "text" };
import activation from "./activation.wgsl" with { type: "text" };
import attentionTile from "./attention_tile.wgsl" with { type: "text" };
import activations from "./activations.wgsl" with { type: "text" };
import book from "./book.wgsl" with { type: "text" };
import codebook from "./codebook.wgsl" with { type: "text" };
import codes from "./codes.wgsl" with { type: "text" };
import distribution from "./distribution.wgsl" with { type: "text" };
import elem from "./elem.wgsl" with { type: "text" };
import floatAt from "./float_at.wgsl" with { type: "text" };
import floats from "./floats.wgsl" with { type: "text" };
import fresh from "./fresh.wgsl" with { type: "text" };
import grid from "./grid.wgsl" with { type: "text" };
import int8 from "./int8.wgsl" with { type: "text" };
import integerGroups from "./integer_groups.wgsl" with { type: "text" };
import kv from "./kv.wgsl" with { type: "text" };
import kvCodes from "./kv_codes.wgsl" with { type: "text" };
import kvGroups from "./kv_groups.wgsl" with { type: "text" };
import kvQuads from "./kv_quads.wgsl" with { type: "text" };
import laneSum from "./lane_sum.wgsl" with { type: "text" };
import lanes from "./lanes.wgsl" with { type: "text" };
import linear from "./linear.wgsl" with { type: "text" };
import packCodes from "./pack_codes.wgsl" with { type: "text" };
import quantized from "./quantized.wgsl" with { type: "text" };
import quantizedColumns from "./quantized_columns.wgsl" with { type: "text" };
import quantizedFinish from "./quantized_finish.wgsl" with { type: "text" };
import quantizedRow from "./quantized_row.wgsl" with { type: "text" };
import quantizedStore from "./quantized_store.wgsl" with { type: "text" };
import quads from "./quads.wgsl" with { type: "text" };
import random from "./random.wgsl" with { type: "text" };
import reduce from "./reduce.wgsl" with { type: "text" };
import rotate from "./rotate.wgsl" with { type: "text" };
import rowBindings from "./row_bindings.wgsl" with { type: "text" };
import rowColumns from "./row_columns.wgsl" with { type: "text" };
import sampling from "./sampling.wgsl" with { type: "text" };
import score from "./score.wgsl" with { type: "text" };
import search from "./search.wgsl" with { type: "text" };
import strips from "./strips.wgsl" with { type: "text" };
import targetBits from "./target_bits.wgsl" with { type: "text" };
import weigh from "./weigh.wgsl" with { type: "text" };
import wordPlace from "./word_place.wgsl" with { type: "text" };

/** Include files by name. */
export const INCLUDES: Readonly<Record<string, string>> = {
  "activated.wgsl": activated,
  "activation.wgsl": activation,
  "attention_tile.wgsl": attentionTile,
  "activations.wgsl": activations,
  "book.wgsl": book,
  "codebook.wgsl": codebook,
  "codes.wgsl": codes,
  "distribution.wgsl": distribution,
  "elem.wgsl": elem,
  "float_at.wgsl": floatAt,
  "floats.wgsl": floats,
  "fresh.wgsl": fresh,
  "grid.wgsl": grid,
  "int8.wgsl": int8,
  "integer_groups.wgsl": integerGroups,
  "kv.wgsl": kv,
  "kv_codes.wgsl": kvCodes,
  "kv_groups.wgsl": kvGroups,
  "kv_quads.wgsl": kvQuads,
  "lane_sum.wgsl": laneSum,
  "lanes.wgsl": lanes,
  "linear.wgsl": linear,
  "pack_codes.wgsl": packCodes,
  "quantized.wgsl": quantized,
  "quantized_columns.wgsl": quantizedColumns,
  "quantized_finish.wgsl": quantizedFinish,
  "quantized_row.wgsl": quantizedRow,
  "quantized_store.wgsl": quantizedStore,
  "quads.wgsl": quads,
  "random.wgsl": random,
  "reduce.wgsl": reduce,
  "rotate.wgsl": rotate,
  "row_bindings.wgsl": rowBindings,
  "row_columns.wgsl": rowColumns,
  "sampling.wgsl": sampling,
  "score.wgsl": score,
  "search.wgsl": search,
  "strips.wgsl": strips,
  "target_bits.wgsl": targetBits,
  "weigh.wgsl": weigh,
  "word_place.wgsl": wordPlace,
};
