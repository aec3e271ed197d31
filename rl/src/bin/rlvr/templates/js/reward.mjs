// A reward: score(item) gives a number for one completion, 1 for a right one and 0 for a wrong one.
import { serve } from "./rlvr_plugin.mjs";

// item: completion, prompt (messages), reference, meta (the rest of the data row), id, truncated, group.
//
// Gives a number; or {score, reason}; or null where the task cannot be judged. An exception is the verdict `error`,
// never 0. console.log goes to the log; the second argument is the `config` of the TOML file.
function score(item, config) {
  const gold = item.reference?.answer;
  if (gold === undefined || gold === null) return null;
  const found = [...item.completion.matchAll(/\\boxed\{([^{}]+)\}/g)];
  if (found.length === 0) return { score: 0, reason: "no \\boxed{} with an answer" };
  const right = found.at(-1)[1].trim() === String(gold).trim();
  return { score: right ? 1 : 0, reason: "the last box" };
}

serve(score);
