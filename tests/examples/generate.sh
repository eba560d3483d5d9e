#!/bin/sh
# mamba_lm generate, as somebody uses it.
#
#   generate.sh <mamba_lm> <a model of bytes> <a folder for its files>
set -eu
program=$1 model=$2 folder=$3
fails() { echo "generate.sh: $*" && exit 1; }
writes() { "$program" generate --model "$model" --threads 1 "$@" 2>"$folder/log"; }
says() { # a sentence, arguments that must fail with it
  sentence=$1
  shift
  if writes "$@" >"$folder/output" </dev/null; then fails "$* did not fail"; fi
  grep -q -e "$sentence" "$folder/log" || fails "$* did not say: $sentence"
  [ ! -s "$folder/output" ] || fails "$* wrote something"
}
same() { # two texts
  [ "$1" = "$2" ] || fails "$1
is not
$2"
}
rm -rf "$folder"
mkdir -p "$folder"
prompt="In the beginning"
printf '%s' "$prompt" >"$folder/prompt"

# The prompt comes from three places, is printed first, and the times follow.
text=$(writes --prompt "$prompt" --bytes 40)
case $text in "$prompt"*) ;; *) fails "the text is $text" ;; esac
grep -q "first byte after .* s; prompt: 16 bytes, .* bytes/s; written: 40 bytes, .* bytes/s" \
  "$folder/log" || fails "no times: $(cat "$folder/log")"
same "$(writes --prompt-file "$folder/prompt" --tokens 40)" "$text"
same "$(printf '%s' "$prompt" | writes --tokens 40)" "$text"
new=$(writes --prompt "$prompt" --tokens 40 --no-echo)
same "$prompt$new" "$text"

# Twenty bytes and twenty more, from a state in a file, are forty.
state=$folder/state
first=$(writes --prompt "$prompt" --tokens 20 --save-state "$state")
same "$first$(writes --state "$state" --tokens 20)" "$text"
says "holds a state already" --prompt a --save-state "$state"
same "$first$(writes --state "$state" --tokens 10 --save-state "$state")$(
  writes --state "$state" --tokens 10)" "$text"
says "prompt: is no state file" --prompt a --save-state "$folder/prompt"
[ "$(cat "$folder/prompt")" = "$prompt" ] || fails "the prompt was replaced"
says "its folder does not exist" --prompt a --save-state "$folder/nowhere/state"
says "is no state file" --state "$model/model.safetensors"
says "prompt: " --state "$folder/prompt"

# Drafts change no text: looked up, or of a model, here the same one.
same "$(writes --prompt "$prompt" --tokens 40 --speculate lookup)" "$text"
grep -q "^drafted: .* bytes in .* passes, accepted: " "$folder/log" || fails "$(cat "$folder/log")"
greedy=$(writes --prompt "$prompt" --tokens 60 --temperature 0)
same "$(writes --prompt "$prompt" --tokens 60 --temperature 0 --speculate "$model")" "$greedy"
drafting=$(writes --prompt "$prompt" --tokens 60 --temperature 0 --speculate lookup --drafts 20 --json)
case $drafting in *'"drafted": '*'"accepted": '*) ;; *) fails "$drafting" ;; esac
first=$(writes --prompt "$prompt" --tokens 20 --speculate lookup --save-state "$state" --overwrite)
same "$first$(writes --state "$state" --tokens 20 --speculate lookup)" "$text"
says "speculate drafts for one text" --speculate lookup --prompts "$folder/prompt"
says "nowhere" --prompt a --speculate "$folder/nowhere"

# It ends before a stop.
end=$(printf '%s' "$new" | cut -c 11-14)
stopped=$(writes --prompt "$prompt" --no-echo --stop xyzxyz --stop "$end" --json)
case $stopped in *'"reason": "stop", "stop": "'"$end"'"'*) ;; *) fails "$stopped" ;; esac
[ "$(echo "$stopped" | grep -c '"token"')" -le 15 ] || fails "more than up to the stop: $stopped"

same "$(writes --prompt "$prompt" --tokens 40 --stop '[e,a]' --stop=--e)" "$text"

# Many prompts at once are each as alone, of a model with layers of every kind too.
mixed=$folder/mixed
"$program" train --text "$0" --out "$mixed" --batch 2 --mixer mamba,attention,mlp,s4d --width 16 \
  --layers 4 --length 32 --window 20 --steps 3 --threads 1 2>/dev/null >"$folder/output"
for model in "$model" "$mixed"; do
  : >"$folder/prompts"
  : >"$folder/alone"
  for each in a "And God said unto" "In the beginning" "the" "zz top"; do
    echo "\"$each\"" >>"$folder/prompts"
    writes --prompt "$each" --json --tokens 30 --stop q |
      sed 's/^{"text": "\(.*\)", "token.*/\1/; /reason/d' | tr -d '\n' >>"$folder/alone"
    echo >>"$folder/alone"
  done
  for batch in 1 2 16; do
    writes --prompts "$folder/prompts" --batch $batch --tokens 30 --stop q >"$folder/output"
    sed 's/^{"text": "\(.*\)", "reason.*/\1/' "$folder/output" | cmp - "$folder/alone" ||
      fails "prompts in batches of $batch differ from those alone"
  done
done
model=$2

# Fewer bits a weight: the text of a model that was written so is that of one that is opened so.
for format in bf16 q8 q4; do
  text=$(writes --prompt "$prompt" --tokens 40 --format $format)
  "$program" quantize --model "$model" --out "$folder/$format" --format $format >"$folder/output"
  model=$folder/$format
  same "$(writes --prompt "$prompt" --tokens 40)" "$text"
  same "$(writes --prompt "$prompt" --tokens 40 --resident)" "$text"
  model=$2
done
if "$program" quantize --model "$model" --out "$folder/q8" >"$folder/output" 2>"$folder/log"; then
  fails "quantize replaced a model"
fi
grep -q "q8: holds a model already" "$folder/log" || fails "$(cat "$folder/log")"

# Who is asked to end writes what there is, and saves the state; so does who is not read any more.
rm -f "$state" "$folder/log"
: >"$folder/output"
"$program" generate --model "$model" --prompt "$prompt" --tokens 1000000000 --threads 1 \
  --save-state "$state" >"$folder/output" 2>"$folder/log" &
job=$!
until [ "$(wc -c <"$folder/output")" -gt 100 ]; do sleep 0.1; done
kill -TERM $job
if wait $job; then fails "ended by SIGTERM as if all was well"; fi
grep -q "written: " "$folder/log" || fails "did not end in order: $(cat "$folder/log")"
writes --state "$state" --tokens 5 >"$folder/output"
rm -f "$state"
writes --prompt "$prompt" --tokens 1000000000 --save-state "$state" | head -c 100 >"$folder/output"
i=0
until [ -e "$state" ] || [ $i = 100 ]; do sleep 0.1 && i=$((i + 1)); done
writes --state "$state" --tokens 5 >"$folder/output"

says "the prompt is empty, expected at least one of the model's bytes" --prompt ""
says "the prompt is empty" --tokens 5
says "nowhere: no such file" --prompt-file nowhere
says "^--prompt excludes --prompt-file" --prompt a --prompt-file b
says "stop is empty" --prompt a --stop ""
says "keeps the state of one text" --prompts "$folder/prompts" --save-state "$state"
says "line 1 is not valid UTF-8 JSON" --prompts "$folder/prompt"
