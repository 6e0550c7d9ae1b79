# story.sh - `fusion story` from outside: files, equal bytes, refusals, nothing left behind.  Run from the repository root.
. tests/command.sh
both="--sd $models/sd1 --audioldm $models/audioldm"

# refuses CODE TEXT ARGS...: one line and the exit code, nothing printed, no new file.
refuses() {
    code=$1 text=$2
    shift 2
    find "$dir" -path "$out" -prune -o -path "$err" -prune -o -print | sort > "$dir.before"
    fusion story "$@" -q > "$out" 2> "$err" < /dev/null
    got=$?
    wrong=
    [ "$got" = "$code" ] || wrong="exit $got, want $code"
    [ "$(wc -l < "$err")" -eq "$code" ] || wrong="$wrong; not one line"
    [ -s "$out" ] && wrong="$wrong; printed"
    grep -qF -e "$text" "$err" || wrong="$wrong; nowhere: $text"
    find "$dir" -path "$out" -prune -o -path "$err" -prune -o -print | sort | cmp -s - "$dir.before" \
        || wrong="$wrong; left something"
    rm -f "$dir.before"
    verdict story "$@"
}

mkdir "$dir/scripts"
cp tests/sounds/noise-44100.wav "$dir/scripts/voice.wav"
script=$dir/scripts/lake.txt
cat > "$script" <<'END'
title: A day at the lake

scene: a lake at sunrise
sound: birds
seconds: 0.5

scene: a market & <rain>
seconds: 0.6
seed: 99
narration: voice.wav
says: It rains.

scene: a cabin
sound: none
seconds: 0.4
END
quick="$both --steps 2 --sound-steps 2 --crossfade 0.1"

# ---- what it makes --------------------------------------------------------------------------------------

files="scene-1.png scene-1.wav scene-2.png scene-2.wav scene-3.png scene-3.wav story.avi story.html story.vtt"
for threads in 1 2 3; do
    check "story -t $threads" fusion story "$script" $quick --seed 7 -t $threads -q -o "$dir/t$threads"
done
check "nine files" test "$(ls "$dir/t1" | tr '\n' ' ')" = "$files "
for file in $files; do
    check "$file: equal bytes with 2 threads" cmp "$dir/t1/$file" "$dir/t2/$file"
    check "$file: equal bytes with 3 threads" cmp "$dir/t1/$file" "$dir/t3/$file"
done
check "plain C" fusion story "$script" $quick --seed 7 --isa c -q -o "$dir/c"
check "equal bytes in plain C" cmp "$dir/t1/story.avi" "$dir/c/story.avi"
check "equal pages in plain C" cmp "$dir/t1/story.html" "$dir/c/story.html"
for file in scene-1.png scene-2.png scene-3.png; do
    check "verify $file" fusion verify "$dir/t1/$file" --sd $models/sd1
done
for file in scene-1.wav scene-2.wav; do
    check "verify $file" fusion verify "$dir/t1/$file" --audioldm $models/audioldm
done
check "the picture that image makes" fusion image --sd $models/sd1 -p "a lake at sunrise" --steps 2 --seed 7 \
    -q -o "$dir/one.png"
check "byte for byte" cmp "$dir/one.png" "$dir/t1/scene-1.png"
check "the sound that audio makes" fusion audio --audioldm $models/audioldm -p birds --steps 2 --seed 7 \
    --seconds 0.52 -q -o "$dir/one.wav"
check "byte for byte" cmp "$dir/one.wav" "$dir/t1/scene-1.wav"
lora="--lora $models/adapters/lora-kohya.safetensors:0.7 --embedding $models/adapters/word.safetensors"
check "story --lora" fusion story "$script" $quick $lora --seed 7 -q -o "$dir/lora"
check "the picture that image --lora makes" fusion image --sd $models/sd1 -p "a lake at sunrise" --steps 2 --seed 7 \
    $lora -q -o "$dir/one.png"
check "byte for byte" cmp "$dir/one.png" "$dir/lora/scene-1.png"
check "captions" grep -qx "a market &amp; &lt;rain&gt;" "$dir/t1/story.vtt"
check "captions of narration" grep -qx "<v Narrator>It rains." "$dir/t1/story.vtt"
check "no path in the page" sh -c "! grep -q '$dir' '$dir/t1/story.html'"
check "a film" test "$(head -c 4 "$dir/t1/story.avi")$(tail -c +9 "$dir/t1/story.avi" | head -c 4)" = "RIFFAVI "

# 13 + 15 + 10 pictures, 2 shared: 3 (0.1 s rounded) at each of two places
fusion story "$script" $quick --seed 7 --json -q -o "$dir/t1" > "$dir/json" 2> "$err"
check "scenes as JSON" grep -q '^{"scene": 2, "text": "a market & <rain>".*"seed": 99, "sound_seed": 99' "$dir/json"
check "the whole as JSON" grep -q '"seconds": 1.28, "frames": 32, "samples": 10240, "rate": 8000' "$dir/json"
check "four objects" test "$(wc -l < "$dir/json")" -eq 4
fusion story "$script" $quick --seed 7 -q -o "$dir/t1" > "$dir/text" 2> "$err"
check "scenes as text" grep -qx "3	0.88	0.40	9	a cabin" "$dir/text"
check "another seed" fusion story "$script" $quick --seed 8 -q -o "$dir/t3"
check "other pictures" sh -c "! cmp -s '$dir/t1/scene-1.png' '$dir/t3/scene-1.png'"
check "the scene with a seed of its own stays" cmp "$dir/t1/scene-2.png" "$dir/t3/scene-2.png"
check "CRLF and a byte order mark" sh -c "{ printf '\357\273\277'; sed 's/\$/\r/' '$script'; } > '$dir/scripts/crlf.txt'"
check "read" fusion story "$dir/scripts/crlf.txt" $quick --seed 7 -q -o "$dir/t3"
check "the same story" cmp "$dir/t1/story.html" "$dir/t3/story.html"
check "--plan" fusion story "$script" $quick --plan
cp "$out" "$dir/said"
check "both models in it" grep -q "^sound unet" "$dir/said"
check "--plan --json" fusion story "$script" $quick --plan --json
cp "$out" "$dir/said"
check "the total last" sh -c "tail -n 1 '$dir/said' | grep -q '\"stage\": \"total\"'"
check "--scratch" fusion story "$script" $quick --seed 7 -q -o "$dir/t3" --scratch "$dir/scratch"
check "the same again" cmp "$dir/t1/story.avi" "$dir/t3/story.avi"
check "no scratch left" test ! -e "$dir/scratch"

# ---- the check -------------------------------------------------------------------------------------------

senses="--clip $models/clip --clap $models/clap --phrases weights/phrases"
check "--verify" fusion story "$script" $quick --seed 7 $senses --verify 2 --threshold 100 --json -o "$dir/v"
cp "$err" "$dir/said"; cp "$out" "$dir/json"
check "three seeds a picture" test "$(grep -c '^picture 1, seed .*percentile' "$dir/said")" -eq 3
check "three seeds a sound" test "$(grep -c '^sound 2, seed .*percentile' "$dir/said")" -eq 3
check "in JSON" grep -q '"picture_percentile": .*"sound_percentile": .*"agree": false' "$dir/json"
best=$(sed -n 's/^picture 1, seed \([0-9]*\): percentile \([0-9.]*\).*/\2 \1/p' "$dir/said" | sort -rn | head -n 1)
check "the best is kept: ${best#* }" grep -q "\"scene\": 1.*\"seed\": ${best#* }," "$dir/json"
check "and verifies" fusion verify "$dir/v/scene-1.png" --sd $models/sd1
check "--threshold 0 is content at once" fusion story "$script" $quick --seed 7 $senses --verify 2 --threshold 0 \
    -o "$dir/v"
check "one seed a picture" test "$(grep -c '^picture 1, seed' "$err")" -eq 1
check "the story of no check" cmp "$dir/t1/story.avi" "$dir/v/story.avi"
check "--describe" fusion story "$script" $quick --seed 7 $senses --describe --json -q -o "$dir/v"
cp "$out" "$dir/said"
check "in JSON" grep -q '"seen": "A.*", "heard": "\[.*\]"' "$dir/said"

# ---- refusals --------------------------------------------------------------------------------------------

refuses 2 "--output: missing, want -o DIR"                  "$script" $quick
refuses 2 "--output: found '-'"                             "$script" $quick -o -
refuses 2 "operand: missing"                                $quick -o "$dir/x"
refuses 2 "operand: found"                                  "$script" "$script" $quick -o "$dir/x"
refuses 2 "--batch-count: of no use here"                   "$script" $quick -o "$dir/x" -b 2
refuses 2 "--width: found 100, want a multiple of 8"        "$script" $quick -o "$dir/x" -W 100
refuses 2 "--crossfade: found '-1'"                         "$script" $both -o "$dir/x" --crossfade -1
refuses 2 "--threshold: of no use without --verify"         "$script" $quick -o "$dir/x" --threshold 50
refuses 2 "--clip: of no use without --verify or --describe" "$script" $quick -o "$dir/x" --clip $models/clip
refuses 2 "--seed: found '18446744073709551615', want room" "$script" $quick -o "$dir/x" --seed 18446744073709551615
refuses 1 "nowhere.txt: cannot open"                        "$dir/nowhere.txt" $quick -o "$dir/x"
refuses 1 "found a PNG picture, want a script"              "$dir/one.png" $quick -o "$dir/x"
refuses 1 "cannot make the folder: No such file"            "$script" $quick -o "$dir/no/x"
refuses 1 "found a file, want a folder"                     "$script" $quick -o "$dir/one.png"
refuses 1 "this run needs"                                  "$script" $quick -o "$dir/x" --max-mem 10K
refuses 1 "no such file or folder, want a model folder"     "$script" -m "$dir/nowhere" -o "$dir/x"
mkdir -p "$dir/taken/story.vtt"
refuses 1 "story.vtt: cannot write: it is a folder"         "$script" $quick -o "$dir/taken"
script() { printf "$1" > "$dir/bad.txt"; }
script 'scene: a\ncolour: red\n'
refuses 1 "bad.txt:2: found 'colour:', want one of scene"   "$dir/bad.txt" $quick -o "$dir/x"
script 'scene: a\nseconds: 1e9\n'
refuses 1 "bad.txt:2: seconds: found '1e9', want a number"  "$dir/bad.txt" $quick -o "$dir/x"
script 'scene: a\nnarration: none.wav\n'
refuses 1 "bad.txt:1: narration: "                          "$dir/bad.txt" $quick -o "$dir/x"
script 'scene: a\nnarration: bad.txt\n'
refuses 1 "bad.txt: "                                       "$dir/bad.txt" $quick -o "$dir/x"
script 'scene: a\nseconds: 0.04\nnarration: scripts/voice.wav\nsays: x\n'
refuses 1 "bad.txt:1: seconds: found 0.04, want at least 0.08"    "$dir/bad.txt" $quick -o "$dir/x"
script 'scene: \377\n'
refuses 1 "bad.txt:1: line: found bytes that are no UTF-8"  "$dir/bad.txt" $quick -o "$dir/x"

# A disk that is full while the film is written: the old story stays, nothing is left beside it.
if (ulimit -f 200 2> /dev/null); then
    find "$dir/t1" -type f | sort | xargs sha256sum > "$dir/sums"
    (ulimit -f 200; fusion story "$script" $quick --seed 8 -q -o "$dir/t1") > "$out" 2> "$dir/said"
    check "a file-size limit is an error" test $? -eq 1
    check "in one line" test "$(wc -l < "$dir/said")" -eq 1
    find "$dir/t1" -type f | sort | xargs sha256sum > "$dir/now"
    check "the old story stays whole" cmp "$dir/sums" "$dir/now"
    (ulimit -f 200; fusion story "$script" $quick --seed 8 -q -o "$dir/new") > "$out" 2> "$err"
    check "no folder stays" test ! -e "$dir/new"
fi

closing
