#!/bin/sh
# Education: what the models do, looked at from inside; an hour's lab sheet in seven commands.
#     sh examples/education.sh [DIR]       into DIR, else examples/out
set -e
fusion=${FUSION:-./fusion}
out=${1:-examples/out}
mkdir -p "$out"

# Text becomes numbers: the pieces of a sentence, in the vocabulary that the model has learned.
$fusion tokenize -p "Une cabane dans les bois" -v

# Noise becomes a picture: the same noise at 2, 5 and 20 steps, and with more or less guidance.
for steps in 2 5 20; do
    $fusion image -p "a cabin in the woods" --seed 1 --steps $steps -o "$out/steps-$steps.png" -q
done
for guidance in 1 3 9; do
    $fusion image -p "a cabin in the woods" --seed 1 --steps 20 --cfg-scale $guidance -o "$out/guidance-$guidance.png" -q
done

# The same place in two moods.
$fusion image -p "un lac joyeux" --seed 6 --steps 20 -o "$out/joyeux.png" -q
$fusion image -p "un lac sombre" --seed 6 --steps 20 -o "$out/sombre.png" -q

# Pictures and sentences in one space: which of them belong together?
$fusion score -p "a cabin" -p "a lake" "$out/steps-20.png" "$out/joyeux.png"
$fusion classify "$out/steps-20.png" --labels "cabin,lake,cat,boat" --top 2

# Every activation of a run, by the reference's names; two runs, and the first layer that differs.
$fusion image -p "a cabin" --seed 1 --steps 1 --trace "$out/a.safetensors" -o "$out/a.png" -q
$fusion image -p "a cabin." --seed 1 --steps 1 --trace "$out/b.safetensors" -o "$out/b.png" -q
$fusion compare "$out/a.safetensors" "$out/b.safetensors" | head -n 3 || true
