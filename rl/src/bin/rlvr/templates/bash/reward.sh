#!/usr/bin/env bash
# A reward: score sets reward to a number for one completion, 1 for a right one and 0 for a wrong one.
source "$(dirname "$0")/rlvr_plugin.sh"

# Reads: $completion, $prompt, $answer (reference.answer, empty when absent), $item (all of it, as JSON).
# Sets:  $reward, $reason. A reward that is no number is the verdict `error`, never 0; `none` says that the
#        task cannot be judged. What goes to stderr is the log.
score() {
  if [[ -z $answer ]]; then
    reward=none reason="the task has no reference.answer"
    return
  fi
  # The end is enough, and patterns are slow on long texts.
  local tail=${completion: -400}
  [[ ${#completion} -lt 400 ]] && tail=$completion
  local boxed=${tail##*\\boxed\{}
  reward=0
  [[ $boxed != "$tail" && ${boxed%%\}*} == "$answer" ]] && reward=1
  reason="the last box"
}

serve
