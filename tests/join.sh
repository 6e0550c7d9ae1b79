# join.sh - caption, check, soundscape, --layer, image --candidates: words, exit codes, outputs, bytes.
# Run from the repository root.
. tests/command.sh
cat=$models/pictures/rgb.png
seen="--clip $models/clip"
heard="--clap $models/clap"
words="--phrases weights/phrases/small-world"

fusion audio --audioldm $models/audioldm -p dog --seed 1 --steps 2 --seconds 0.5 -q -o "$dir/dog.wav" 2> /dev/null

# ---- caption ------------------------------------------------------------------------------------------

misuse "operand: missing"                          caption
misuse "--lang: found 'de', want one of en, fr"    caption $cat --lang de
fails  "nowhere: no such file or folder"           caption $cat $words --clip nowhere
fails  "want CLAP"                                 caption "$dir/dog.wav" -m $models/clip $words
fails  "README.md: cannot open"                    caption "$dir/README.md" $seen $words
good   "	A market in the mountains"            caption $cat $seen $words
good   "	Un marché dans les montagnes"         caption $cat $seen $words --lang fr
good   '"caption": "A market in the mountains'     caption $cat $seen $words --json
good   '{"words": "a market", "query": "a market / a street market / un marché", "probability": ' caption $cat $seen $words --json
good   "	["                                    caption "$dir/dog.wav" $heard $words
good   '"heard": [{"words": "'                     caption "$dir/dog.wav" $heard $words --json
attempt 0 caption $cat "$dir/dog.wav" $seen $heard $words --top 2
lines 16 "$out"; holds "$cat	subject	a market	"; holds "dog.wav	sound	"; verdict "caption --top 2"

# The cosine of a phrase of one wording is that of `score`.
printf '[subject]\na red cat | a cat | un chat\n[sound]\na dog barking | a dog | un chien\n' > "$dir/one.txt"
mkdir "$dir/bank"
cp "$dir/one.txt" "$dir/bank/captions.txt"
attempt 0 caption $cat $seen --phrases "$dir/bank" --top 1
ours=$(sed -n 's/.*	subject	.*	//p' "$out")
theirs=$(fusion score -m $models/clip -p "a red cat" $cat 2> /dev/null | cut -f 3)
[ -n "$ours" ] && [ "$ours" = "$theirs" ] || wrong="'$ours', score says '$theirs'"
verdict "caption's cosine is score's, picture"
attempt 0 caption "$dir/dog.wav" $heard --phrases "$dir/bank" --top 1
ours=$(sed -n 's/.*	sound	.*	//p' "$out")
theirs=$(fusion score -m $models/clap -p "a dog barking" "$dir/dog.wav" 2> /dev/null | cut -f 3)
[ -n "$ours" ] && [ "$ours" = "$theirs" ] || wrong="'$ours', score says '$theirs'"
verdict "caption's cosine is score's, sound"

# traced NAME VERB...: the run's trace holds a tensor of that name.
traced() {
    name=$1
    shift
    attempt 0 "$@" --trace "$dir/t.safetensors"
    fusion inspect "$dir/t.safetensors" > "$out" 2> "$err"
    holds "$name"
    verdict "$1 --trace"
}
traced clip.text0.text_model.encoder.layers.0      caption $cat "$dir/dog.wav" $seen $heard $words
traced clap.sound0.audio_                          caption $cat "$dir/dog.wav" $seen $heard $words
fails  "cannot write"                              caption $cat $seen $words --trace "$dir/nowhere/t.safetensors"

# ---- phrases ------------------------------------------------------------------------------------------

printf '[subject]\na cat | a cat\n' > "$dir/bad.txt"
fails  "bad.txt:2: [subject]: found 2 fields, want query | English | French" caption $cat $seen $words --phrases "$dir/bad.txt"
fails  "no phrases here, want captions.txt"        caption $cat $seen --phrases $models
fails  "nowhere.txt: cannot open"                  caption $cat $seen $words --phrases "$dir/nowhere.txt"
printf '[subject]\na market / a street market / un marché | the great market | le grand marché\n' > "$dir/more.txt"
good   "	The great market"                     caption $cat $seen $words --phrases "$dir/more.txt"
good   "	Le grand marché"                      caption $cat $seen $words --phrases "$dir/more.txt" --lang fr
printf '[place]\nx | in x | dans x\n' > "$dir/bank/captions.txt"
fails  "phrases: no phrases for pictures, want lines in a section [subject]" caption $cat $seen --phrases "$dir/bank"
mkdir "$dir/bundle"
cp -R $models/clip "$dir/bundle/clip"
cp -R weights/phrases/small-world "$dir/bundle/phrases"
good   "	A market in the mountains"            caption $cat -m "$dir/bundle"
good   "	A market in the mountains"            caption $cat -m "$dir/bundle/clip"
if [ -z "$RUN" ]; then
    cp "$FUSION" "$dir/here"
    kept=$FUSION
    FUSION=$dir/here
    fails "$dir/weights/phrases: no such folder"   caption $cat $seen
    mkdir -p "$dir/weights"
    cp -R weights/phrases/small-world "$dir/weights/phrases"
    good "	A market in the mountains"        caption $cat $seen
    FUSION=$kept
fi

# ---- check --------------------------------------------------------------------------------------------

misuse "check: want two or three of -p TEXT, --image FILE, --audio FILE" check -p x $seen $words
misuse "--threshold: found '101', want a number in 0..100" check -p x --image $cat --threshold 101
misuse "operand: found 'x'"                        check x
fails  "dog.wav: found a sound, want a picture"    check -p x --image "$dir/dog.wav" $seen $words
fails  "rgb.png: found a picture, want a sound"    check -p x --audio $cat $heard $words
good   "verdict	they agree"                        check -p "a dog" --image $cat $seen $words --threshold 0
no     "verdict	they do not agree"                 check -p "a dog" --image $cat $seen $words --threshold 100
no     "verdict	pas d'accord"                      check -p "a dog" --image $cat $seen $words --threshold 100 --lang fr
traced clap.text1.text_projection                  check -p "a dog" --image $cat --audio "$dir/dog.wav" $seen $heard $words --threshold 0
attempt 0 check -p "a dog" --image $cat --audio "$dir/dog.wav" $seen $heard $words --threshold 0
lines 4 "$out"; holds "text-picture	"; holds "text-sound	"; holds "picture-sound	"; verdict "check of three"
good   '"agree": true, "verdict": "they agree'     check -p "a dog" --audio "$dir/dog.wav" $heard $words --threshold 0 --json
good   '"pair": "picture-sound", "cosine": '       check --image $cat --audio "$dir/dog.wav" $seen $heard $words --threshold 0 --json
good   '"by": "phrases"'                           check --image $cat --audio "$dir/dog.wav" $seen $heard $words --threshold 0 --json
one=$(fusion check -p "a dog" --image $cat --audio "$dir/dog.wav" $seen $heard $words --json -t 1 2> /dev/null)
for t in 2 3 7; do
    check "check at $t threads" [ "$one" = "$(fusion check -p "a dog" --image $cat --audio "$dir/dog.wav" $seen $heard $words --json -t $t 2> /dev/null)" ]
done
attempt 0 check -p "a dog" --image $cat $seen $words --threshold 0
ours=$(sed -n 's/^text-picture	\([^	]*\)	.*/\1/p' "$out")
theirs=$(fusion score -m $models/clip -p "a dog" $cat 2> /dev/null | cut -f 3)
[ "$ours" = "$theirs" ] || wrong="'$ours', score says '$theirs'"
verdict "check's cosine is score's"

# ---- soundscape and layers ----------------------------------------------------------------------------

make="--audioldm $models/audioldm --steps 2 --seconds 0.5"
scape="soundscape $cat $seen $words $make"
misuse "operand: missing"                          soundscape
misuse "--sounds: found '9', want a whole number in 1..8" $scape --sounds 9
misuse "--output: found 'x.mp3'"                   $scape -o x.mp3
misuse "--prompt: of no use here"                  $scape -p x
misuse "--json: of no use with -o -"               $scape --json -o -
fails  "dog.wav: found a sound, want a picture"    soundscape "$dir/dog.wav" $seen $words $make
fails  "cannot write"                              $scape -o "$dir/nowhere/x.wav"
good   "You hear: "                                $scape --seed 3 -o "$dir/a.wav"
good   "On entend : "                              $scape --seed 3 -o "$dir/b.wav" --lang fr -t 3
check  "the same sound in every language, at every thread count" cmp "$dir/a.wav" "$dir/b.wav"
good   "same"                                      verify "$dir/a.wav" --audioldm $models/audioldm
good   'layer = "'                                 inspect "$dir/a.wav"
good   '"layers": [{"sound": "'                    $scape --seed 3 -o "$dir/j.wav" --json
traced clip.picture0.visual_projection             $scape --seed 3 -o "$dir/j.wav"
traced layer0.step0.unet.conv_out                  $scape --seed 3 -o "$dir/j.wav"
attempt 0 $scape --seed 3 -o - -q
cmp -s "$out" "$dir/a.wav" || wrong="$wrong; other bytes"
verdict "soundscape -o -"
attempt 0 $scape --sounds 1 --seed 3 --peak -6 -o "$dir/c.wav" --json
holds '"peak": 0.501'; [ "$(grep -o '"gain_db"' "$out" | wc -l)" -eq 2 ] || wrong="$wrong; not one layer"; verdict "soundscape --sounds 1"
attempt 0 $scape $heard --sounds 2 --seed 3 --candidates 2 --loop 0.1 --fade-in 0.1 -o "$dir/d.wav" --json
holds '"samples": 4000'; lines 6 "$err"; verdict "soundscape --candidates"
good   "same"                                      verify "$dir/d.wav" --audioldm $models/audioldm
attempt 0 $scape --plan
holds "CLIP picture"; holds "AudioLDM unet"; holds "total"; verdict "soundscape --plan"
fails  "--max-mem: found 1.0K, this run needs"     $scape --max-mem 1K -o "$dir/x.wav"
check  "nothing was written" [ ! -e "$dir/x.wav" ]

misuse "--layer: found 'rain', want a level in dB and a text, as '-6 birds singing'" audio $make --layer rain
misuse "--layer: found '-6 @ rain'"                audio $make --layer "-6 @ rain"
misuse "--layer: found '300 rain'"                 audio $make --layer "300 rain"
misuse "--prompt: of no use with --layer"          audio $make --layer "0 rain" -p x
misuse "--batch-count: of no use with --layer"     audio $make --layer "0 rain" -b 2 -o "$dir/x-%d.wav"
misuse "--seed: found '18446744073709551615', want room" audio $make --layer "0 rain" --layer "0 x" --seed 18446744073709551615
good   '"layers": [{"prompt": "rain", "gain_db": -2.5, "seed": 7}, {"prompt": "a dog", "gain_db": 0, "seed": 9}]' audio $make --layer "-2.5 rain" --layer "0 @9 a dog" --seed 7 -o "$dir/e.wav" --json
good   "same"                                      verify "$dir/e.wav" --audioldm $models/audioldm
good   '"peak": 0.500000'                          audio $make --layer "-6.0206 @5 rain" --gain-db 0 --float -o "$dir/e.wav" --json
# A layer alone is the sound of its text, at its own peak.
fusion audio $make --layer "-40 @5 rain" --peak -3 -q --seed 1 -o "$dir/f.wav" --float 2> /dev/null
fusion audio $make -p rain --seed 5 --peak -3 -q -o "$dir/g.wav" --float 2> /dev/null
samples_alike() {
    fusion embed -m $models/clap "$dir/f.wav" 2> /dev/null | cut -f 3 | tr ' ' '\n' > "$dir/f"
    fusion embed -m $models/clap "$dir/g.wav" 2> /dev/null | cut -f 3 | tr ' ' '\n' > "$dir/g"
    paste "$dir/f" "$dir/g" | awk '{ d = $1 - $2; if (d < 0) d = -d; if (d > 1e-3) bad = 1; n++ } END { exit bad || n < 4 }'
}
check  "a layer alone is its sound" samples_alike

# ---- image --candidates -------------------------------------------------------------------------------

image="image --sd $models/sd1 --steps 2 -p cat --seed 5"
misuse "--candidates: no CLIP model to rank them: give --clip PATH" image -m $models/sd1 -p x --candidates 2 -o "$dir/x.png"
fails  "want CLIP"                                 $image --clip $models/clap --candidates 2 -o "$dir/x.png"
misuse "--batch-count: of no use with --candidates" $image --candidates 2 -b 2 -o "$dir/x-%d.png"
misuse "--latents: of no use with --candidates"    $image --candidates 2 --latents x -o "$dir/x.png"
attempt 0 $image $seen --candidates 3 -o "$dir/best.png" --save-latents "$dir/best.safetensors"
lines 4 "$err"
best=$(sed -n 's/^seed //p' "$err")
head -n 1 "$err" | grep -q "^$best	" || wrong="$wrong; the first is not the best"
[ "$(head -n 3 "$err" | cut -f 2)" = "$(head -n 3 "$err" | cut -f 2 | sort -rn)" ] || wrong="$wrong; not sorted"
verdict "image --candidates"
first=$(head -n 1 "$err" | cut -f 2)
fusion image --sd $models/sd1 --steps 2 -p cat --seed "$best" -o "$dir/again.png" --save-latents "$dir/again.safetensors" -q 2> /dev/null
check  "the best one is its seed's picture" cmp "$dir/best.png" "$dir/again.png"
check  "and its latents" cmp "$dir/best.safetensors" "$dir/again.safetensors"
check  "its score is that of score" [ "$first" = "$(fusion score -m $models/clip -p cat "$dir/best.png" 2> /dev/null | cut -f 3)" ]
good   "same"                                      verify "$dir/best.png" --sd $models/sd1
good   '"candidates": [{"seed": '                  $image $seen --candidates 2 -o "$dir/x.png" --json
good   "rank	"                                  $image $seen --candidates 2 --plan

closing
