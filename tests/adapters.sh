# adapters.sh - LoRA and new words: pictures against diffusers', names, refusals.  Run from the
# repository root.  tests/adapters.py made the files and the reference.
. tests/command.sh
sd=$models/sd1
made=$models/adapters
make="image -m $sd -q --sampling-method ddim -n dark --steps 4 --cfg-scale 5 -W 64 -H 64 --seed 7 -o $dir/x.png"

# like NAME ARGS: the final latents are those of the reference.
like() {
    name=$1
    shift
    good "" $make --save-latents "$dir/latents.safetensors" "$@"
    good "latents" compare "$dir/latents.safetensors" "$made/latents-$name.safetensors" --tolerance 1e-5
}

like plain -p "a photo of a cat"
like lora -p "a photo of a cat" --lora $made/lora-kohya.safetensors:0.7
like lora -p "a photo of a cat" --lora $made/lora-diffusers.safetensors:0.7
like conv -p "a photo of a cat" --lora $made/lora-conv.safetensors
like both -p "a photo of a cat" --lora $made/lora-kohya.safetensors:0.5 --lora $made/lora-conv.safetensors:-0.6
like word -p "a photo of <cat-toy>, red" --embedding $made/word.safetensors
like word -p "a photo of cat-toy, red" --embedding $made/cat-toy.safetensors

# ---- names, threads, replay -----------------------------------------------------------------------------

lora="--lora $made/lora-kohya.safetensors:0.7 --lora $made/lora-conv.safetensors"
word="--embedding $made/word.safetensors"
good   ""                                         $make -p "a <cat-toy>" $lora $word
cp "$dir/x.png" "$dir/first.png"
good   ""                                         $make -p "a <cat-toy>" $lora $word -t 3 --isa c
check  "the same picture with other threads, in plain C" cmp "$dir/x.png" "$dir/first.png"
good   "same"                                     verify "$dir/first.png" -m $sd $lora $word
fails  "made with adapters of sha256"             verify "$dir/first.png" -m $sd $word
fails  "give each with --embedding FILE"          verify "$dir/first.png" -m $sd $lora
fails  "was made with"                            verify "$dir/first.png" -m $sd --lora $made/lora-kohya.safetensors:0.6 --lora $made/lora-conv.safetensors $word
grep -q "$made" "$dir/first.png" && wrong="a path in it" || wrong=
verdict "no path of an adapter in the picture"
good   ""                                         $make -p cat --save-latents "$dir/zero.safetensors" --lora $made/lora-kohya.safetensors:0
good   ""                                         $make -p cat --save-latents "$dir/none.safetensors"
check  "weight 0 is no change"                    cmp "$dir/zero.safetensors" "$dir/none.safetensors"
cp $made/lora-kohya.safetensors "$dir/a:b.safetensors"
good   ""                                         $make -p cat --lora "$dir/a:b.safetensors"
good   ""                                         $make -p cat --lora "$dir/a:b.safetensors:1e-1"

# ---- refusals -------------------------------------------------------------------------------------------

fails  "none.safetensors: "                       $make -p cat --lora none.safetensors:1
fails  "found no LoRA, want names that end as"    $make -p cat --lora $made/word.safetensors
LC_ALL=C sed 's/down_blocks_0/down_blocks_9/g' $made/lora-conv.safetensors > "$dir/other.safetensors"
fails  "has none of that name: made for another model" $make -p cat --lora "$dir/other.safetensors"
fails  "want them to fit the weight [72,40]"      image -m $models/sd2 -q -p cat --steps 1 -o "$dir/x.png" --lora $made/lora-kohya.safetensors
LC_ALL=C sed 's/lora_up/lora_ax/g' $made/lora-conv.safetensors > "$dir/other.safetensors"
fails  "its upper half is missing"                $make -p cat --lora "$dir/other.safetensors"
LC_ALL=C sed 's/lora_down/hada_w1_a/g' $made/lora-conv.safetensors > "$dir/other.safetensors"
fails  "found a LoHa adapter, want LoRA"          $make -p cat --lora "$dir/other.safetensors"
fails  "want vectors [n,40] of the text encoder's width" image -m $models/sd2 -q -p cat --steps 1 -o "$dir/x.png" $word
fails  "found it in another file too, want it once" $make -p cat $word $word
fails  "want one that is named as its word, or emb_params" $make -p cat --embedding $made/lora-conv.safetensors
misuse "--lora: of no use here"                   audio -p cat $lora
fails  "found no LoRA"                            image -m $sd -q -p cat --steps 1 --lora $made/word.safetensors -o "$dir/none.png"
check  "a refused adapter leaves no picture"      [ ! -e "$dir/none.png" ]
closing
