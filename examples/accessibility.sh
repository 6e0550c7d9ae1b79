#!/bin/sh
# Accessibility: pictures in words, sounds in words, pictures as sounds.
#     sh examples/accessibility.sh [DIR]   into DIR, else examples/out
set -e
fusion=${FUSION:-./fusion}
out=${1:-examples/out}
mkdir -p "$out"
$fusion image -p "a lighthouse by the sea, rain" --seed 2 --steps 20 -o "$out/lighthouse.png" -q
$fusion audio -p "waves of the sea, and gulls" --seed 2 --steps 20 --seconds 4 -o "$out/sea.wav" -q

# For who does not see the picture: a sentence, in English and in French.
$fusion caption "$out/lighthouse.png"
$fusion caption "$out/lighthouse.png" --lang fr

# For who does not hear the sound: what can be heard, as captions put it.
$fusion caption "$out/sea.wav"
$fusion caption "$out/sea.wav" --lang fr

# The picture as a soundscape, which says in words what it lets hear and why.
$fusion soundscape "$out/lighthouse.png" --seed 4 --steps 20 --seconds 4 -o "$out/lighthouse.wav" -q
