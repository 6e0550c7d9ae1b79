# cli.sh - the command from outside: words, exit codes, outputs, signals.  Run from the repository root.
# FUSION is the program, RUN an emulator before it.  Closes with `N passed, N failed`.
FUSION=${FUSION:-./fusion}
models=tests/models
sd=$models/sd1
clip=$models/clip
cat=$models/pictures/rgb.png
passed=0
failed=0
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
out=$dir/stdout
err=$dir/stderr
unset FUSION_MODEL

fusion() { $RUN "$FUSION" "$@"; }

# Run the rest; what is wrong, if anything, is left in $wrong.
attempt() {
    want=$1
    shift
    fusion "$@" > "$out" 2> "$err" < /dev/null
    code=$?
    wrong=
    [ "$code" = "$want" ] || wrong="exit $code, want $want"
}
holds() { [ -z "$1" ] || grep -qF -e "$1" "$out" "$err" || wrong="$wrong; nowhere: $1"; }
lines() { [ "$(wc -l < "$2")" -eq "$1" ] || wrong="$wrong; ${2##*/} has $(wc -l < "$2") lines, want $1"; }
verdict() {
    if [ -z "$wrong" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED fusion $*: $wrong"
        head -n 5 "$out" "$err"
    fi
}

# misuse FRAGMENT ARGS: two lines on standard error, nothing on standard output.
misuse() {
    fragment=$1
    shift
    attempt 2 "$@"
    holds "$fragment"
    lines 2 "$err"
    lines 0 "$out"
    head -n 1 "$err" | grep -q '^fusion: ' || wrong="$wrong; first line"
    tail -n 1 "$err" | grep -q '^try: fusion help' || wrong="$wrong; last line"
    verdict "$@"
}
# fails FRAGMENT ARGS: one line on standard error.
fails() {
    fragment=$1
    shift
    attempt 1 "$@"
    holds "$fragment"
    lines 1 "$err"
    head -n 1 "$err" | grep -q '^fusion: ' || wrong="$wrong; first line"
    verdict "$@"
}
# good FRAGMENT ARGS, no FRAGMENT ARGS: exit 0, exit 3.
good() { fragment=$1; shift; attempt 0 "$@"; holds "$fragment"; verdict "$@"; }
no()   { fragment=$1; shift; attempt 3 "$@"; holds "$fragment"; verdict "$@"; }
# check WHAT COMMAND...: any command of the shell succeeds.
check() {
    what=$1
    shift
    wrong=
    "$@" > "$out" 2> "$err" || wrong="not so"
    verdict "($what)"
}

# ---- words --------------------------------------------------------------------------------------------

misuse "verb: missing"
misuse "verb: found 'paint', want one of image, embed"       paint
misuse "verb: found 'audio'"                                 audio -p x
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
misuse "--device: found 'opencl', want cpu"                  image -p x --device opencl
misuse "--output: found ''"                                  image -p x -o ''
misuse "--model: found ''"                                   image -p x -m ''
misuse "--prompt: found ''"                                  image -p ''
for word in lora mask film heatmap preview candidates embedding; do
    misuse "--$word: not in this build"                      image -p x --$word x
done
misuse "--output: found 'x.gif'"                             image -p x -o x.gif
misuse "--output: found 'x.png', want %d in it, as"                    image -p x -b 2 -o x.png
misuse "--output: found 'x.txt'"                             embed -p x -o x.txt
misuse "--width: found 100, want a multiple of 8"            image -m $sd -p x -W 100
misuse "--height: found 7, want a multiple of 8"             image -m $sd -p x -H 7
misuse "--steps: pndm: 1000 steps: found timestep 1000"      image -m $sd -p x --steps 1000
misuse "--clip-skip: found '99'"                             image -m $sd -p x --clip-skip 99
misuse "--schedule: found karras"                            image -m $sd -p x --sampling-method ddim --schedule karras

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
fails  "single-file checkpoints are not read yet"            image -m $clip/model.safetensors -p x
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
check  "SIGHUP"                                              stopped HUP 129

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

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
