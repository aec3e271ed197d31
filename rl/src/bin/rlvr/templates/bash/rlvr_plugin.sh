# The protocol rlvr-plugin/1 around a function. Needs bash and jq: a shell cannot read JSON safely by itself.
export LC_ALL=${LC_ALL:-C.UTF-8}
command -v jq >/dev/null || { echo "jq is needed: https://jqlang.org" >&2; exit 1; }

# A line of the host as shell code, one command a line; @sh quotes, so that no text is ever run.
_code='
  if .type == "hello" then "_hello"
  elif .type == "score" then
    "_batch=\(.batch | tonumber) _items=",
    (.items[]
      | [.i, .completion, ([.prompt[]?.content] | join("\n")),
         ([.reference | objects | .answer | values | tostring] | first // ""), tojson]
      | @sh "_item \(.)"),
    "_send"
  else "exit 0" end'

_hello() {
  echo '{"type":"hello","protocol":1,"name":"reward","version":"1","capabilities":["batch","deterministic"]}'
}

_item() {
  completion=$2 prompt=$3 answer=$4 item=$5 reward= reason=
  score
  local fields='"verdict":"error","reason":"the reward is no number"'
  # A reason is kept to plain characters, so that it needs no JSON quoting.
  reason=${reason//[^a-zA-Z0-9 .,:;()_-]/?}
  [[ $reward =~ ^-?(0|[1-9][0-9]{0,14})(\.[0-9]+)?$ ]] && fields="\"score\":$reward,\"reason\":\"$reason\""
  [[ $reward == none ]] && fields="\"verdict\":\"unverifiable\",\"reason\":\"$reason\""
  _items+="${_items:+,}{\"i\":$1,$fields}"
}

_send() {
  printf '{"type":"result","batch":%s,"items":[%s]}\n' "$_batch" "$_items"
}

# Answers the host until it says bye.
serve() {
  local _line
  while IFS= read -r _line; do
    eval "$(jq -r "$_code" <<<"$_line")"
  done
}
