/** What torch gives greedily with the embedded model: `models/goldens.json`. */
import goldens from "../../models/goldens.json" with { type: "json" };

const cases = goldens["tensaur-tiny"].greedy;

/** The greedy continuation of a golden prompt whose text ends with `end`. */
export function continuation(end: string): string {
  return cases.find(({ text }) => text.includes(end))!.continuation;
}

/** The first golden prompt, and how the story goes on. */
export const PROMPT = "Once upon a time", STORY = cases.find(({ text }) => text === PROMPT)!.continuation;

/** A word of the story that is not in what comes before it. */
export const STOP = STORY.split(" ").find((word, i, words) =>
  i > 5 && /^\w{4,}$/.test(word) && words.indexOf(word) === i
)!;
