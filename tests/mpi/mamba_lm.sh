#!/bin/sh
# mamba_lm over ranks, as somebody uses it.
#
#   mamba_lm.sh <mamba_lm> <a text> <a folder for its files> <mpirun -n>
set -eu
program=$1 text=$2 folder=$3
shift 3
over() { # as many ranks, arguments
  echo "over $*"
  ranks=$1
  shift
  "$launch" $flags "$ranks" "$program" "$@"
}
launch=$1
shift
flags=$*
fails() { echo "mamba_lm.sh: $*" && exit 1; }
says() { # a sentence, a command that must fail with it
  sentence=$1
  shift
  if "$@" >"$folder/log" 2>&1; then fails "$* did not fail"; fi
  grep -q "$sentence" "$folder/log" || fails "$* did not say: $sentence"
}
mkdir -p "$folder"
model=$folder/model
train="train --text $text --threads 1 --out $model"
small="--overwrite --width 16 --batch 3 --length 40 --held-out 0.2"

# A run goes on with any number of ranks, in a line, in a grid and alone.
over 3 $train $small --layers 1 --steps 5 --eval-every 3
over 4 $train --resume --steps 8 --time-ranks 2
"$program" $train --resume --steps 10
over 2 $train --resume --steps 12

# What is measured does not depend on it.
for how in "" "--prime 1 --adapt 0.001"; do
  measure="eval --text $text --model $model --threads 1 $how"
  alone=$("$program" $measure 2>/dev/null | cut -d ' ' -f 1-2)
  ranks=$(over 3 $measure 2>/dev/null | tail -n 1 | cut -d ' ' -f 1-2)
  [ "$alone" = "$ranks" ] || fails "$alone alone, $ranks over ranks"
done

# Nor for a model of tokens, which every rank learns alike.
tokens="train --text $text --threads 1 --out $folder/tokens"
over 3 $tokens $small --layers 1 --steps 4 --vocab 300 --eval-every 3
over 2 $tokens --resume --steps 6
"$program" $tokens --resume --steps 7
measure="eval --text $text --model $folder/tokens --threads 1 --prime 1"
alone=$("$program" $measure 2>/dev/null | cut -d ' ' -f 1-2)
ranks=$(over 3 $measure 2>/dev/null | tail -n 1 | cut -d ' ' -f 1-2)
[ "$alone" = "$ranks" ] || fails "of tokens $alone alone, $ranks over ranks"
says "has a vocabulary of 300, expected 256 where there is no tokenizer.json" \
  sh -c 'mkdir -p "$2" && cp "$1"/model.safetensors "$1"/config.json "$2" && "$0" eval --text "$3" --model "$2"' \
  "$program" "$folder/tokens" "$folder/alone" "$text"

# Layers of every kind, in a grid.
over 4 train --text "$text" --threads 1 --out "$folder/mixed" $small --layers 4 --steps 2 \
  --mixer mamba,attention,mlp,s4d --window 20 --time-ranks 2

says "generate writes a token after the other" over 2 generate --model "$model"
says "is 2, expected a divisor of the number of ranks, which is 3" \
  over 3 $train --resume --time-ranks 2

# Ranks that were given other options say so, and wait for no other.
says "the ranks were not given the same options and files" \
  "$launch" $flags 1 "$program" $train --resume --steps 13 : $flags 1 "$program" $train --resume

# A rank that is asked to end lets all end in order; one that is killed ends all. From both
# checkpoints other numbers of ranks go on.
for signal in TERM KILL; do
  rm -f "$folder/pid" "$folder/log"
  "$launch" $flags 1 "$program" $train $small --layers 1 --steps 1000000 --save-every 1 : $flags 1 \
    sh -c 'echo $$ >"$1" && shift && exec "$@"' sh "$folder/pid" \
    "$program" $train $small --layers 1 --steps 1000000 --save-every 1 2>"$folder/log" &
  job=$!
  until grep -q "^step" "$folder/log"; do sleep 0.1; done
  kill -$signal "$(cat "$folder/pid")"
  if wait $job; then fails "the job ended by SIG$signal as if all was well"; fi
  cat "$folder/log"
  [ $signal = KILL ] || grep -q "^stopped after step" "$folder/log" || fails "did not stop in order"
  over 3 $train --resume --steps 20
done
