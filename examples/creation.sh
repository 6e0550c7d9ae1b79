#!/bin/sh
# Creation: a picture, four variations of which CLIP keeps the best, a sound, and both as a film.
#     sh examples/creation.sh [DIR]        into DIR, else examples/out
set -e
fusion=${FUSION:-./fusion}
out=${1:-examples/out}
mkdir -p "$out"

# The same seed gives the same bytes on every machine; `verify` makes the picture again.
$fusion image -p "A serene lake surrounded by snow-capped mountains at sunrise" --seed 7 --steps 20 -o "$out/lake.png" -q
$fusion verify "$out/lake.png"

# Four seeds, ranked by CLIP; the scores are printed, the best picture is kept.
$fusion image -p "Une cabane chaleureuse dans les bois sous la neige." --seed 1 --candidates 4 --steps 20 -o "$out/cabin.png"

# A sound as long as asked, to the sample, whose end runs into its beginning.
$fusion audio -p "Un marché animé avec des conversations." --seed 3 --steps 20 --seconds 4 --loop 0.5 -o "$out/market.wav" \
    --spectrogram "$out/market.png" -q

# Scenes to pictures and sounds in time: story.avi, story.vtt, and story.html that opens in any browser.
cat > "$out/story.txt" <<'END'
title: A day at the lake
lang: en

scene: a lake in the mountains at sunrise
sound: birds singing
seconds: 3

scene: a lively market
sound: a market
seconds: 3

scene: a campfire in the woods at night
sound: a crackling fire
seconds: 3
END
$fusion story "$out/story.txt" --seed 5 --steps 20 -o "$out/story" -q
ls "$out/story"
