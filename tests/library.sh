# library.sh - the programs of examples/ do what the command does.  Run from the repository root.
#     sh tests/library.sh [FUSION [DIR]]      DIR holds label, draw, sound; else build/examples
. tests/command.sh
FUSION=${1:-$FUSION}
built=${2:-${FUSION_TESTS:-build}/examples}
tiny=weights/tiny

# example NAME ARGS...
example() { name=$1; shift; $RUN "$built/$name" "$@" > "$out" 2> "$err"; }

if [ -d $tiny ]; then
check  "draw draws"                                          example draw $tiny/sd "a cabin" "$dir/ours.ppm"
holds  "20 of 20"; verdict "draw tells how far it is"
good   "seed 7"                                              image -m $tiny -p "a cabin" --seed 7 --steps 20 -o "$dir/theirs.ppm"
tail -c 49152 "$dir/ours.ppm" > "$dir/ours"; tail -c 49152 "$dir/theirs.ppm" > "$dir/theirs"
check  "the picture of the library is that of the command"   cmp "$dir/ours" "$dir/theirs"
check  "sound sounds"                                        example sound $tiny/audioldm "a dog" "$dir/ours.wav"
good   "seed 7"                                              audio -m $tiny -p "a dog" --seed 7 --steps 20 --seconds 4 -o "$dir/theirs.wav"
tail -c +45 "$dir/ours.wav" > "$dir/ours"; tail -c +45 "$dir/theirs.wav" | head -c 128000 > "$dir/theirs"
check  "the sound of the library is that of the command"     cmp "$dir/ours" "$dir/theirs"
check  "label labels"                                        example label $tiny/clip "$dir/ours.ppm" "a cabin" "a dog"
lines 2 "$out"; verdict "label prints a line a text"
good   "$(head -n 1 "$out" | cut -c 1-5)"                    score -m $tiny -p "a cabin" "$dir/ours.ppm"
fi
refuse() { if example "$@"; then return 1; fi; [ ! -s "$out" ] && [ "$(wc -l < "$err")" = 1 ]; }
check  "label says in one line what it cannot read"          refuse label $models/clip "$dir/none.png" a
check  "draw leaves nothing of what failed"                  refuse draw "$dir/none" a "$dir/x.png"
[ ! -e "$dir/x.png" ] || wrong="x.png is there"; verdict "no picture of a model that is not there"
closing
