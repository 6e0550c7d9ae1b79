# cli.sh - the command from outside: words, exit codes, outputs, signals.  Run from the repository root.
. tests/command.sh
sd=$models/sd1
clip=$models/clip
cat=$models/pictures/rgb.png

# ---- words --------------------------------------------------------------------------------------------

misuse "verb: missing"
misuse "verb: found 'paint', want one of image, audio, " paint
misuse "verb: found 'stori'"                                 stori -p x
good   "text to picture"                                     help
good   "text to picture"                                     --help
good   "text to picture"                                     -h
good   "--cfg-scale X"                                       help image
good   "--cfg-scale X"                                       image --help
good   "--tolerance X"                                       help compare
good   "fusion 0"                                            --version
good   '"isa": ["'                                           version --json
misuse "verb: found 'paint'"                                 help paint
misuse "--colour: unknown option"                            image -p x --colour red
misuse "-z: unknown option"                                  image -p x -z
misuse "--steps: its value is missing"                       image -p x --steps
misuse "-o: its value is missing"                            image -p x -o
misuse "--steps: given twice"                                image -p x --steps 5 --steps 5
misuse "--prompt: given twice"                               image -p x --prompt=y
misuse "operand: found 'cat'"                                image -p x cat
misuse "operand: found '--steps'"                            image -p x -- --steps
misuse "operand: missing"                                    score -p x
misuse "--labels: of no use here"                            image -p x --labels a,b
misuse "--steps: of no use here"                             embed -p x --steps 5
misuse "--json: takes no value"                              version --json=yes
misuse "--strength: of no use without -i"                    image -p x --strength 0.5
misuse "--prompt: missing"                                   image -m $sd
misuse "--prompt: missing"                                   tokenize -m $clip
misuse "--prompt: missing"                                   score -m $clip $cat
misuse "nothing to embed"                                    embed -m $clip
misuse "--labels: want either"                               classify -m $clip $cat
misuse "--labels: found an empty label"                      classify -m $clip $cat --labels a,,b
misuse "--template: found 'a photo'"                         classify -m $clip $cat --labels a,b --template "a photo"

for value in 0 -1 1001 1e3 20x '' ' 5' '5 ' 0x10 2.0 +5 nan 99999999999999999999; do
    misuse "--steps: found '$value', want a whole number in 1..1000" image -p x --steps "$value"
done
for value in -1 18446744073709551616 abc 0x10 ' 5' 1.0 ''; do
    misuse "--seed: found '$value', want a whole number in 0..18446744073709551615" image -p x --seed "$value"
done
for value in nan inf 7,5 7.5.1 0x1p3 1e999 '' ' 1' -0.1; do
    misuse "--cfg-scale: found '$value', want a number in 0..1e+30" image -p x --cfg-scale "$value"
done
for value in 0 1025 -1 2.0; do
    misuse "--threads: found '$value', want a whole number in 1..1024" image -p x -t "$value"
done
for value in 0 12Q M -5M ''; do
    misuse "--max-mem: found '$value', want a size as 64M or 2G" image -p x --max-mem "$value"
done
misuse "--eta: found '1.5', want a number in 0..1"           image -p x --eta 1.5
misuse "--strength: found '1.01'"                            image -p x -i $cat --strength 1.01
misuse "--sampling-method: found 'magic', want one of ddim"  image -p x --sampling-method magic
misuse "--schedule: found 'steep', want one of discrete, karras" image -p x --schedule steep
misuse "--isa: found 'mmx', want"                            image -p x --isa mmx
misuse "--device: found 'gpu', want one of cpu, opencl"      image -p x --device gpu
misuse "--output: found ''"                                  image -p x -o ''
misuse "--model: found ''"                                   image -p x -m ''
misuse "--prompt: found ''"                                  image -p ''
misuse "--output: found 'x.gif'"                             image -p x -o x.gif
misuse "--output: found 'x.png', want %d in it, as"                    image -p x -b 2 -o x.png
misuse "--output: found 'x.txt'"                             embed -p x -o x.txt
misuse "--width: found 100, want a multiple of 8"            image -m $sd -p x -W 100
misuse "--height: found 7, want a multiple of 8"             image -m $sd -p x -H 7
misuse "--steps: pndm: 1000 steps: found timestep 1000"      image -m $sd -p x --steps 1000
misuse "--clip-skip: found '99'"                             image -m $sd -p x --clip-skip 99
misuse "--schedule: found karras"                            image -m $sd -p x --sampling-method ddim --schedule karras

for word in --width --clip-skip --sd --normalize; do
    misuse "$word: of no use here"                           audio -p x $word 1
done
misuse "--seconds: of no use here"                           image -p x --seconds 1
misuse "--seconds: found 'nan', want a number in 0..3600"    audio -p x --seconds nan
misuse "--seconds: found '-1'"                               audio -p x --seconds -1
misuse "--peak: found 'loud'"                                audio -p x --peak loud
misuse "--strength: of no use without -i"                    audio -p x --strength 0.5
misuse "--peak: of no use with --rms"                        audio -p x --peak -1 --rms -20
misuse "--gain-db: of no use with --peak"                    audio -p x --gain-db 3 --peak -1
misuse "--batch-count: of no use with --candidates"          audio -p x --candidates 2 -b 2 -o x-%d.wav
misuse "--latents: of no use with --candidates"              audio -p x --candidates 2 --latents x
misuse "--output: found 'x.mp3', want a name that ends in .wav" audio -p x -o x.mp3
misuse "--output: found 'x.wav', want %d in it, as x-%d.wav" audio -p x -b 2 -o x.wav
misuse "--spectrogram: found 'x.wav', want a name that ends in .png" audio -p x --spectrogram x.wav
misuse "--spectrogram: found 'x.png', want %d in it"         audio -p x -b 2 -o x-%d.wav --spectrogram x.png
misuse "--prompt: missing"                                   audio
good   "text to sound"                                       help audio

# ---- options in a file ----------------------------------------------------------------------------------

printf '# a run\nsteps = 2   # few\nprompt = "a \\"red\\" # cat"\r\n\n  seed=9\nquiet = true\n' > "$dir/run.conf"
good   "seed 9"                                              image -m $sd --config "$dir/run.conf" -o "$dir/conf.png"
good   'prompt = "a \\"red\\" # cat"\nwidth = 64\nheight = 64\nsteps = 2\n' inspect "$dir/conf.png"
good   "seed 8"                                              image -m $sd --config "$dir/run.conf" --seed 8 -o "$dir/conf.png"
printf 'steps = 2\ncolour = red\n' > "$dir/bad.conf"
misuse "bad.conf: line 2: colour: unknown option"            image -p x --config "$dir/bad.conf"
printf 'steps = 2\nsteps = 3\n' > "$dir/bad.conf"
misuse "bad.conf: line 2: steps: given twice"                image -p x --config "$dir/bad.conf"
printf 'steps = 0\n' > "$dir/bad.conf"
misuse "bad.conf: line 1: steps: found '0', want a whole number" image -p x --config "$dir/bad.conf"
printf 'steps\n' > "$dir/bad.conf"
misuse "bad.conf: line 1: found 'steps', want name = value"  image -p x --config "$dir/bad.conf"
fails  "none.conf: cannot open"                              image -p x --config "$dir/none.conf"

# ---- models that are none --------------------------------------------------------------------------------

[ -d "$(dirname "$FUSION")/weights/tiny" ] || misuse "--model: no model: give -m PATH" embed -p x
fails  "nowhere: no such file or folder"                     image -m "$dir/nowhere" -p x
fails  "model: found a CLIP folder, want Stable Diffusion"   image -m $clip -p x
fails  "model: found a Stable Diffusion folder, want CLIP"   embed -m $sd -p x
fails  "no model here"                                       image -m "$dir" -p x
fails  "found a CLIP model of a transformers folder: give the whole folder, want a Stable Diffusion folder" image -m $clip/model.safetensors -p x
printf 'version https://git-lfs.github.com/spec/v1\n' > "$dir/pointer.safetensors"
fails  "a Git LFS pointer"                                   image -m "$dir/pointer.safetensors" -p x
fails  "a Git LFS pointer"                                   inspect "$dir/pointer.safetensors"
mkdir "$dir/bundle"
ln -s "$PWD/$clip" "$dir/bundle/clip"
ln -s "$PWD/$sd" "$dir/bundle/sd"
good   "text	a"                                           embed -m "$dir/bundle" -p a
good   "text	a"                                           embed --clip $clip -p a
good   "total"                                               image -m "$dir/bundle" -p a --plan
FUSION_MODEL=$clip
export FUSION_MODEL
good   "text	a"                                           embed -p a
unset FUSION_MODEL

# ---- reading ---------------------------------------------------------------------------------------------

good   "598 320 584 78 83 334 78 325 320 518 339 599"        tokenize -m $clip -p "a photo of a cat"
good   "598 320 584"                                         tokenize -m $sd -p "a photo of a cat"
good   "339	t</w>"                                       tokenize -m $clip -p "a photo of a cat" -v
good   "are cut off"                                         tokenize -m $clip -p "$(printf 'cat %.0s' $(seq 90))"
good   '"cut": null'                                         tokenize -m $clip -p cat --json
good   "a dog	$cat	"                                    score -m $clip -p "a cat" -p "a dog" $cat
good   '"probability": '                                     score -m $clip -p "a cat" $cat --json
good   "$cat	"                                            classify -m $clip $cat --labels a,b --top 1
lines 1 "$out"; verdict "classify --top 1 prints one line"
good   "$cat	none	"                                    classify -m $clip $cat --labels a,b,c,d --threshold 1
printf 'a cat\r\n\na dog\n' > "$dir/labels"
good   "a cat"                                               classify -m $clip $cat --labels-file "$dir/labels"
lines 2 "$out"; verdict "classify --labels-file prints a line a label"
good   ""                                                    embed -m $clip -p a -p b $cat -o "$dir/v.safetensors"
good   "image_embeds	F32	[1,24]	192	288"          inspect "$dir/v.safetensors"
good   ""                                                    embed -m $clip -p a -p b -o "$dir/v.npy"
misuse "not both"                                            embed -m $clip -p a $cat -o "$dir/v.npy"
good   ""                                                    embed -m $clip -p a $cat -o "$dir/v.json" --normalize
fails  "no.png: cannot open"                                 score -m $clip -p a $cat "$dir/no.png"
lines 0 "$out"; verdict "score prints nothing when one picture is broken"
good   '"stage": "total"'                                    embed -m $clip -p a --plan --json
good   "total"                                               score -m $clip -p a $cat --plan
fails  "--max-mem: found 1.0K, this run needs"               embed -m $clip -p a --max-mem 1K
good   ""                                                    embed -m $clip -p a $cat --trace "$dir/t.safetensors"
good   "text_model.encoder.layers.0	F32	[1,3,32]"          inspect "$dir/t.safetensors"

# ---- reading sounds --------------------------------------------------------------------------------------

clap=$models/clap
dog=tests/sounds/noise-44100.wav
if [ -d $clap ]; then
good   "text	a"                                           embed -m $clap -p a
good   "file	$dog	"                                    embed -m $clap $dog
good   ""                                                    embed -m $clap -p a -p b $dog -o "$dir/s.safetensors"
good   "audio_embeds	F32	[1,20]"                      inspect "$dir/s.safetensors"
good   "text_embeds	F32	[2,20]"                      inspect "$dir/s.safetensors"
good   "a dog	$dog	"                                    score -m $clap -p "a cat" -p "a dog" $dog
good   '"probability": '                                     score -m $clap -p "a cat" $dog --json
good   "$dog	"                                            classify -m $clap $dog --labels a,b --top 1
lines 1 "$out"; verdict "classify --top 1 of a sound prints one line"
good   "sound	"                                            score -m $clap -p a $dog --plan
fails  "--max-mem: found 1.0K, this run needs"               embed -m $clap $dog --max-mem 1K
fails  "found a sound, want a picture: $clip is a CLIP folder" embed -m $clip $dog
fails  "found a picture, want a sound: $clap is a CLAP folder" score -m $clap -p a $cat
fails  "no.wav: cannot open"                                 score -m $clap -p a $dog "$dir/no.wav"
lines 0 "$out"; verdict "score prints nothing when one sound is broken"
head -c 60 $dog > "$dir/cut.wav"
fails  "cut.wav: data chunk, found"                     embed -m $clap "$dir/cut.wav"
fails  "model: found a CLAP folder, want Stable Diffusion"   image -m $clap -p x
fails  "model: found a CLIP folder, want AudioLDM"           audio -m $clip -p x -o "$dir/x.wav"
good   "130 bound	7 ignored	0 unknown	0 missing"    inspect $clap
good   "44100 Hz	1 channel"                           inspect $dog
good   '"rate": 44100, "channels": 1'                        inspect $dog --json
good   ""                                                    tokenize --clap $clap -p "a dog"
ln -s "$PWD/$clap" "$dir/bundle/clap"
good   "file	$dog	"                                    embed -m "$dir/bundle" $dog
good   "file	$cat	"                                    embed -m "$dir/bundle" $cat
fails  "found a picture, want a sound"                       embed -m "$dir/bundle" $dog $cat
good   ""                                                    embed -m $clap -p a $dog --trace "$dir/t.safetensors"
good   "input_features"                                      inspect "$dir/t.safetensors"
fi

# ---- making sounds ---------------------------------------------------------------------------------------

ldm=$models/audioldm
if [ -d $ldm ]; then
ln -s "$PWD/$ldm" "$dir/bundle/audioldm"
hear="audio -m $ldm --steps 2 -q"
good   "seed 7"                                              $hear -p "a dog" --seed 7 -o "$dir/a.wav"
good   "8000 Hz	1 channel	1920 samples"                        inspect "$dir/a.wav"
good   'prompt	a dog'                                       inspect "$dir/a.wav"
good   ""                                                    $hear -p "a dog" --seed 7 -t 3 --isa c -o "$dir/again.wav"
check  "the same sound with other threads, in plain C"       cmp "$dir/a.wav" "$dir/again.wav"
good   ""                                                    $hear -p "a dog" --seed 6 -b 2 -o "$dir/n-%d.wav"
check  "a batch gives the sounds of single runs"             cmp "$dir/a.wav" "$dir/n-1.wav"
cp -r $ldm "$dir/null"
sed '/"cross_attention_dim": \[/,/]/c "cross_attention_dim": null,' $ldm/unet/config.json > "$dir/null/unet/config.json"
good   ""                                                    audio -m "$dir/null" --steps 2 -q -p "a dog" --seed 7 -o "$dir/null.wav"
check  "cross_attention_dim: null is each level's own width" cmp "$dir/a.wav" "$dir/null.wav"
sed 's/"model_type": "hifigan"/"model_type": "speecht5_hifigan"/' $ldm/vocoder/config.json > "$dir/null/vocoder/config.json"
good   ""                                                    audio -m "$dir/null" --steps 2 -q -p "a dog" --seed 7 -o "$dir/null.wav"
check  "a vocoder as transformers 5 names it"                cmp "$dir/a.wav" "$dir/null.wav"
good   ""                                                    $hear -p "a dog" --seed 7 -o -
cp "$out" "$dir/stdout.wav"
check  "- is standard output, for sounds"                    cmp "$dir/a.wav" "$dir/stdout.wav"
good   "same"                                                verify "$dir/a.wav" -m $ldm
good   "same"                                                verify "$dir/a.wav" -m "$dir/bundle"
fails  "nothing here says how it was made"                   verify $dog -m $ldm
good   '"samples": 9877'                                     $hear -p x --seconds 1.23457 -o "$dir/b.wav" --json
good   '"samples": 9877'                                     $hear -p x --seconds 1.23457 --loop 0.3333 --fade-in 0.1 --fade-out 0.2 --peak -6 --seed 1 -o "$dir/b.wav" --json
holds  '"peak": 0.501187'; verdict "audio --peak -6 has a peak of 0.501"
good   "same"                                                verify "$dir/b.wav" -m $ldm
good   "file	$dir/b.wav	"                                embed -m $clap "$dir/b.wav" --trace "$dir/t.safetensors"
good   "window1.audio_model"                                 inspect "$dir/t.safetensors"
first_sample() { od -An -j44 -N2 -td2 "$1" | tr -d ' '; }
check  "a fade begins in silence"                            [ "$(first_sample "$dir/b.wav")" = 0 ]
check  "a sound without a fade does not"                     [ "$(first_sample "$dir/a.wav")" != 0 ]
good   '"rms": 0.100000'                                     $hear -p x --rms -20 --float -o "$dir/c.wav" --json
good   "WAV 32-bit float"                                    inspect "$dir/c.wav"
good   "samples are beyond full scale"                       audio -m $ldm --steps 1 -p x --gain-db 60 -o "$dir/c.wav"
misuse "--loop: found 2, want at most the 1 seconds"         $hear -p x --seconds 1 --loop 2 -o "$dir/c.wav"
misuse "--seconds: found 0, want from"                       $hear -p x --seconds 0 -o "$dir/c.wav"
misuse "--schedule: found karras"                            $hear -p x --sampling-method ddim --schedule karras
good   '"samples": 8000'                                     $hear -p x -i $dog --strength 0.6 --seconds 1 --seed 3 -o "$dir/i.wav" --json
fails  "give it with -i FILE"                                verify "$dir/i.wav" -m $ldm
good   "same"                                                verify "$dir/i.wav" -m $ldm -i $dog
good   ""                                                    $hear -p x -b 2 --seed 1 --save-latents "$dir/l.safetensors" -o "$dir/l-%d.wav"
good   "latents	F32	[2,4,12,5]"                          inspect "$dir/l.safetensors"
good   ""                                                    $hear -p x -b 2 --seed 1 --latents "$dir/l.safetensors" -o "$dir/m-%d.wav"
fails  "tensor 'latents': found 2 items, want 1"             $hear -p x --latents "$dir/l.safetensors" -o "$dir/m.wav"
fails  "want [N,4,50,5]"                                     $hear -p x --seconds 1 --latents "$dir/l.safetensors" -b 2 -o "$dir/m-%d.wav"
good   ""                                                    embed -m $clap -p "a dog" -o "$dir/e.safetensors"
fails  "tensor 'prompt_embeds': missing"                     $hear --prompt-embeds "$dir/e.safetensors" -o "$dir/m.wav"
good   ""                                                    $hear -p x --spectrogram "$dir/s.png" -o "$dir/s.wav"
good   "PNG	93x294"                                      inspect "$dir/s.png"
fails  "nothing here says how it was made"                   verify "$dir/s.png" -m $ldm
good   ""                                                    $hear -p x --trace "$dir/t.safetensors" -o "$dir/t.wav"
good   "vocoder."                                            inspect "$dir/t.safetensors"
good   ""                                                    audio -m "$dir/bundle" --steps 2 -p x -i $dog --candidates 2 --trace "$dir/t.safetensors" -o "$dir/t.wav"
good   "candidate1.clap.audio_model"                         inspect "$dir/t.safetensors"
good   "total"                                               audio -m $ldm -p a --plan
fails  "--max-mem: found 10.0K, this run needs"              $hear -p a --max-mem 10K -o "$dir/x.wav"
good   ""                                                    $hear -p a --max-mem 1G --scratch "$dir/scratch" -o "$dir/x.wav"
good   "vocoder	72 tensors	72 bound"                            inspect $ldm
good   "text_encoder	43 tensors"                          inspect $ldm/text_encoder
good   "vocoder	"                                            inspect $ldm/vocoder
good   "clap	"                                            inspect "$dir/bundle"
misuse "--candidates: no CLAP model"                         $hear -p x --candidates 2 -o "$dir/x.wav"
fails  "model: found a CLIP folder, want CLAP"               $hear -p x --candidates 2 --clap $clip -o "$dir/x.wav"
good   '"candidates": [{"seed": '                            audio -m "$dir/bundle" --steps 2 -p "a dog" --seed 5 --candidates 3 --float -o "$dir/best.wav" --json
best=$(sed -n 's/^seed //p' "$err")
lines 4 "$err"; grep -q "^$best	" "$err" || wrong="no score of seed $best"; verdict "audio --candidates prints seeds and scores"
best_first() { head -n 3 "$err" | cut -f 2 | LC_ALL=C sort -c -g -r && [ "$(head -n 1 "$err" | cut -f 1)" = "$best" ]; }
best_first || wrong="not best first"; verdict "audio --candidates ranks the best first"
score=$(head -n 1 "$err" | cut -f 2)
good   ""                                                    $hear -p "a dog" --seed "$best" --float -o "$dir/one.wav"
check  "the best candidate is the sound of its seed"         cmp "$dir/best.wav" "$dir/one.wav"
good   "$score"                                              score -m $clap -p "a dog" "$dir/best.wav"
good   "same"                                                verify "$dir/best.wav" -m $ldm
fails  "folder.wav: cannot write"                            $hear -p a -o "$dir/none/folder.wav"
fails  "cannot write"                                        $hear -p a -o "$dir/x.wav" --spectrogram "$dir/none/x.png"
fi

# ---- inspect: values, differences, cards -----------------------------------------------------------------

# tensors FILE BYTES... - one tensor of four F32, little-endian
tensors() {
    printf '\070\0\0\0\0\0\0\0{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}} ' > "$1"
    printf "$2" >> "$1"
}
one='\0\0\200\077' two='\0\0\0\100' minus='\0\0\200\277' nothing='\0\0\0\0' nan='\0\0\300\177'
tensors "$dir/1.safetensors" "$one$minus$nothing$two"
tensors "$dir/2.safetensors" "$one$minus$two$two"
tensors "$dir/3.safetensors" "$one$minus$nan$two"
good   "min -1	max 2	mean 0.5	deviation 1.11803	zeros 1	not finite 0" inspect --stats "$dir/1.safetensors"
good   "min -1	max 2	mean 0.666667	deviation 1.24722	zeros 0	not finite 1" inspect --stats "$dir/3.safetensors"
good   '"stats": {"min": -1, "max": 2, "mean": 0.5, "deviation": 1.11803399, "zeros": 1, "not_finite": 0}' inspect --stats --json "$dir/1.safetensors"
good   "a	F32	F32	1 of 4 changed	largest 2	relative 8.165e-01"    inspect --diff "$dir/1.safetensors" "$dir/2.safetensors"
good   "1 of 4 changed	largest inf"                                 inspect --diff "$dir/1.safetensors" "$dir/3.safetensors"
good   '"largest": null, "relative": null'                            inspect --diff --json "$dir/1.safetensors" "$dir/3.safetensors"
good   "total	1 tensors	0 different	1 equal"                      inspect --diff "$dir/3.safetensors" "$dir/3.safetensors"
good   "only in the second"                                          inspect --diff "$dir/1.safetensors" $clip
good   "0 different"                                                 inspect --diff $sd/unet $sd/unet
fails  "$dir/none: cannot open"                                      inspect --diff "$dir/1.safetensors" "$dir/none"
misuse "--diff: found 1 operand, want two"                           inspect --diff "$dir/1.safetensors"
printf '# A model\n\033[31mred\n' > "$dir/README.md"
good   '\x1b[31mred'                                                inspect --card "$dir"
fails  "no model card here, want README.md"                          inspect --card $models/tiny/none

# ---- making ----------------------------------------------------------------------------------------------

make="image -m $sd --steps 2 -q"
good   "seed 7"                                              $make -p "a cat" --seed 7 -o "$dir/a.png"
good   "seed 18446744073709551615"                           $make -p "a cat" --seed 18446744073709551615 -o "$dir/b.png"
good   "a cat"                                               inspect "$dir/a.png"
good   ""                                                    $make -p "a cat" --seed 7 -t 3 --isa c -o "$dir/again.png"
check  "the same bytes with other threads, in plain C"       cmp "$dir/a.png" "$dir/again.png"
good   ""                                                    $make -p "a cat" --seed 6 -b 2 -o "$dir/n-%d.png"
check  "a batch gives the bytes of single runs"              cmp "$dir/a.png" "$dir/n-1.png"
good   ""                                                    $make -p "a cat" --seed 7 -o -
cp "$out" "$dir/stdout.png"
check  "- is standard output"                                cmp "$dir/a.png" "$dir/stdout.png"
good   "same"                                                verify "$dir/a.png" -m $sd
no     "different"                                           verify "$dir/a.png" -m $models/sd2
fails  "nothing here says how it was made"                   verify $cat -m $sd
good   ""                                                    $make -p "a cat" --seed 7 -o "$dir/a.ppm"
good   "same"                                                verify "$dir/a.ppm" -m $sd
good   ""                                                    $make -p "a cat" --seed 7 -i $cat --strength 0.6 -o "$dir/i.png"
fails  "give it with -i FILE"                                verify "$dir/i.png" -m $sd
good   "same"                                                verify "$dir/i.png" -m $sd -i $cat
good   ""                                                    $make -p a --seed 1 -b 2 --save-latents "$dir/l.safetensors" -o "$dir/l-%d.png"
good   "latents	F32	[2,4,8,8]"                           inspect "$dir/l.safetensors"
good   ""                                                    $make -p a --seed 1 --latents "$dir/l.safetensors" -b 2 -o "$dir/m-%d.png"
fails  "tensor 'latents': found shape [2,4,8,8] of rank 4, want [N,4,8,16]" $make -p a --latents "$dir/l.safetensors" -b 2 -W 128 -o "$dir/m-%d.png"
fails  "tensor 'latents': found 2 items, want 1"             $make -p a --latents "$dir/l.safetensors" -o "$dir/m.png"
fails  "tensor 'prompt_embeds': missing"                     $make --prompt-embeds "$dir/l.safetensors" -o "$dir/m.png"
good   "prompt: too long for the text encoder, cut off"      image -m $sd --steps 1 -p "$(printf 'cat %.0s' $(seq 90))" -o "$dir/long.png"
good   '"width": 64'                                         $make -p a -o "$dir/j.png" --json
good   ""                                                    $make -p a --seed 1 --trace "$dir/t.safetensors" -o "$dir/t.png"
good   "step1.unet.conv_out"                                 inspect "$dir/t.safetensors"
good   "vae.decoder.conv_out	0.000e+00"                       compare "$dir/t.safetensors" "$dir/t.safetensors"
good   ""                                                    $make -p a --seed 2 --trace "$dir/u.safetensors" -o "$dir/t.png"
no     "beyond	step0.unet.conv_in"                          compare "$dir/t.safetensors" "$dir/u.safetensors"
good   ""                                                    compare "$dir/t.safetensors" "$dir/u.safetensors" --tolerance 100
no     "only in the first"                                   compare "$dir/t.safetensors" "$dir/l.safetensors" --tolerance 100
good   "326 bound"                                           inspect $sd
good   "0 missing"                                           inspect $sd/vae
good   "total"                                               image -m $sd -p a --plan
fails  "--max-mem: found 100.0K, this run needs"             image -m $sd -p a --max-mem 100K -q -o "$dir/x.png"
fusion image -m $sd -p a --plan > "$out" 2> /dev/null
size=$(tail -n 1 "$out" | sed 's/.*	//')
good   ""                                                    $make -p a --max-mem "$size" --scratch "$dir/scratch" -o "$dir/s.png"

# ---- outputs and signals -----------------------------------------------------------------------------------

echo old > "$dir/old.png"
mkdir "$dir/folder.png"
fails  "folder.png: cannot write: it is a folder"            $make -p a -o "$dir/folder.png"
fails  "cannot write"                                        $make -p a -o "$dir/none/x.png"
fails  "cannot write"                                        $make -p a -o /dev/full
fails  "it looks like a PNG picture"                         $make -p a --latents "$cat" -o "$dir/old.png"
check  "a run that fails leaves the old output"              grep -q old "$dir/old.png"

full() { fusion "$@" > /dev/full 2> "$err"; [ $? = 1 ] && grep -q "standard output: cannot write" "$err"; }
closed() { fusion "$@" >&- 2> "$err"; [ $? = 1 ]; }
check  "results on a full device are an error"               full tokenize -m $clip -p a
check  "results on a closed standard output are an error"    closed tokenize -m $clip -p a
silent() { fusion tokenize -m $clip -p a 2>&-; }
check  "a closed standard error is none"                     silent
closed_all() { fusion $make -p "a cat" --seed 7 -o "$dir/c.png" <&- >&- 2>&-; cmp "$dir/a.png" "$dir/c.png"; }
check  "an output does not land on a closed descriptor"      closed_all
limited() { (ulimit -f 1; fusion $make -p a -o "$dir/old.png" -W 256 -H 256 2> "$err"); [ $? = 1 ] && grep -q old "$dir/old.png"; }
check  "a file-size limit is an error"                       limited

# Stop a long run by a signal: it dies by it, the old output stays, nothing else is left.
stopped() {
    mkdir -p "$dir/stop"
    echo old > "$dir/stop/x.png"
    $RUN "$FUSION" image -m $sd -p a --steps 900 -W 256 -H 256 -q -o "$dir/stop/x.png" &
    pid=$!
    for i in 1 2 3 4 5 6 7 8 9 10; do
        [ "$(ls -A "$dir/stop" | wc -l)" -gt 1 ] && break
        sleep 0.3
    done
    [ "$(ls -A "$dir/stop" | wc -l)" -gt 1 ] || return 1
    sleep 0.3
    kill -"$1" $pid
    wait $pid 2> /dev/null
    [ $? = "$2" ] && [ "$(ls -A "$dir/stop")" = x.png ] && grep -q old "$dir/stop/x.png"
}
check  "SIGTERM"                                             stopped TERM 143
sh -c 'kill -HUP $$' 2> /dev/null ||                       # where nohup ignores it, so does the program
    check "SIGHUP"                                           stopped HUP 129

# A model cut short while it is in use.
truncated() {
    rm -rf "$dir/cut"
    mkdir "$dir/cut"
    cp -RL $sd/. "$dir/cut"
    $RUN "$FUSION" image -m "$dir/cut" -p a --steps 900 -W 256 -H 256 -q -o "$dir/x.png" 2> "$err" &
    pid=$!
    sleep 1
    : > "$dir/cut/unet/diffusion_pytorch_model.safetensors"
    wait $pid
    [ $? = 1 ] && grep -q "^fusion: .*unet/diffusion_pytorch_model.safetensors: truncated while in use" "$err"
}
[ -n "$RUN" ] || check "a model truncated while mapped is named" truncated

# ---- lists, other noise, rescaled guidance: made again from what the picture says ---------------------

lists="image -m $sd -p a -W 64 -H 64 --seed 3 -q -o $dir/x.png"
for words in "--timesteps 999,500,20 --sampling-method euler" "--sigmas 14,3,0.5,0 --sampling-method heun" \
    "--rng cuda" "--rng numpy --guidance-rescale 0.7" "--sampling-method tcd --eta 0.3" \
    "--sampling-method dpm++2m_sde --schedule exponential" "--schedule sgm_uniform --sampling-method euler"; do
    good   ""                                            $lists --steps 3 $words
    good   "same"                                        verify "$dir/x.png" -m $sd
done
good   "trailing"                                        inspect "$dir/x.png"
misuse "--timesteps: found 'x', want"                    $lists --timesteps 999,x
misuse "--sigmas: found '5', want two numbers or more"   $lists --sigmas 5
misuse "--sigmas: of no use with --timesteps"            $lists --sigmas 5,0 --timesteps 5,0
misuse "--rng: found 'x', want one of torch, cuda, numpy" $lists --rng x
misuse "whole numbers that fall"                         $lists --timesteps 5,10 --sampling-method euler
misuse "--guidance-rescale: found '2'"                   $lists --guidance-rescale 2

good   ""                                                $lists --steps 2 --cfg-scale 3 --sampling-method euler --save-config "$dir/saved.conf"
cp "$dir/x.png" "$dir/first.png"
good   ""                                                image -m $sd --config "$dir/saved.conf" -q -o "$dir/x.png"
check  "the picture again, by its saved options"         cmp "$dir/x.png" "$dir/first.png"
fails  "cannot write"                                    $lists --steps 1 --save-config "$dir/nowhere/x.conf"

grid="image -m $sd -p a -W 64 -H 64 --seed 3 -q"
good   '"steps": 3, "guidance": 9'                       $grid --each-steps 1,3 --each-guidance 2,9 --contact-sheet "$dir/sheet.png" -o "$dir/g%d.png" --json
good   "PNG	128x128"                                     inspect "$dir/sheet.png"
good   "same"                                            verify "$dir/g3.png" -m $sd
good   ""                                                $grid --steps 3 --cfg-scale 9 -o "$dir/one.png"
check  "a picture of the grid is the picture alone"      cmp "$dir/one.png" "$dir/g3.png"
misuse "--each-steps: found 1.5, want whole numbers"     $grid --each-steps 1.5 -o "$dir/g%d.png"
misuse "--batch-count: of no use with --each-steps"      $grid --each-steps 1,2 -b 2 -o "$dir/g%d.png"
good   ""                                                $grid --steps 2 --noise-size 32x96 -o "$dir/n.png"
good   "same"                                            verify "$dir/n.png" -m $sd
good   ""                                                $grid --steps 2 --noise-size 64x64 --save-latents "$dir/a.safetensors" -o "$dir/n.png"
good   ""                                                $grid --steps 2 --save-latents "$dir/b.safetensors" -o "$dir/n.png"
check  "noise of the picture's own size is its own"      cmp "$dir/a.safetensors" "$dir/b.safetensors"
good   "row 2, column 1: 3 steps, guidance 2"            image -m $sd -p a -W 64 -H 64 --seed 3 --each-steps 1,3 --each-guidance 2,9 -o "$dir/g%d.png"
misuse "--steps: of no use with --each-steps"            $grid --each-steps 1,2 --steps 2 -o "$dir/g%d.png"
misuse "--cfg-scale: of no use with --each-guidance"     $grid --each-guidance 1,2 --each-steps 1 --cfg-scale 2 -o "$dir/g%d.png"
misuse "--steps: found 60, wanted 1..50 (lcm)"           $grid --each-steps 2,60 --sampling-method lcm -o "$dir/late%d.png"
check  "a grid is refused before its first picture"      [ ! -e "$dir/late0.png" ]
plan() { fusion image -m $sd -p a -W 64 -H 64 --plan --json "$@" | sed -n 's/.*"stage": "unet", //p'; }
[ "$(plan --each-steps 1,9 --each-guidance 1,7)" = "$(plan --each-steps 9,1 --each-guidance 7,1)" ] || wrong="another plan in another order"
verdict "the plan of a grid is that of all its pictures"
misuse "--steps: found '9', --timesteps has 2"           $grid --timesteps 999,20 --sampling-method euler --steps 9
misuse "--noise-size: of no use with --latents"          $grid --noise-size 64x64 --latents "$dir/a.safetensors"
misuse "--noise-size: found '64.0x64'"                   $grid --noise-size 64.0x64
misuse "--noise-size: found '64', want WxH"              $grid --noise-size 64
misuse "--noise-size: found '60x64'"                     $grid --noise-size 60x64

# ---- the shipped weights ---------------------------------------------------------------------------------

shipped=$(dirname "$FUSION")/weights/tiny
if [ -d "$shipped" ]; then
    good   "same"                                            selftest
    lines 6 "$out"; verdict "selftest: six results"
    good   ""                                                image -p "une cabane" --steps 2 --seed 1 -q -o "$dir/tiny.png"
    good   "PNG	128x128"                                 inspect "$dir/tiny.png"
    good   "same"                                            verify "$dir/tiny.png"
    good   "of this machine's peak"                          image -p "une cabane" --steps 1 --seed 1 -v -o "$dir/tiny.png"
    good   '"samples": 16001'                                audio -p "un chien" --steps 2 --seconds 1.00005 --seed 1 -q -o "$dir/tiny.wav" --json
    good   "cabin	"                                        classify "$dir/tiny.png" --labels "cabin,cat" --top 2
fi

closing
