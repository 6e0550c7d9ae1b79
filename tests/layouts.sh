# layouts.sh - checkpoints in one file and open_clip folders: the same bytes as the folders of
# diffusers and transformers.  Run from the repository root; tests/test_original.c writes the models.
. tests/command.sh
made=$dir/layouts
mkdir "$made"
LAYOUTS=$made $RUN "${FUSION_TESTS:-build}/test_original" write_layouts > "$out" || exit 1
set -- -q -p "a photo of a cat" --steps 2 -W 64 -H 64 --seed 7

# same FOLDER MODEL...: the picture that the folder makes comes again from the other layout.
same() {
    folder=$1
    shift
    good "" image -m "$models/$folder" -q -p "a photo of a cat" --steps 2 -W 64 -H 64 --seed 7 -o "$dir/x.png"
    attempt 3 verify "$dir/x.png" "$@"                     # its texts name another file
    holds "0 of 4096 pixels differ"
    verdict "$@"
}
same sd1 -m "$made/sd1/model.safetensors"
same sd1 -m "$made/sd1/bare.safetensors"
same sd2 -m "$made/sd2/model.safetensors"
same sd2 -m "$made/sd2/sgm.safetensors"
same sd1 -m "$models/sd2" --sd "$made/sd1/model.safetensors"
cp "$made/sd1/model.safetensors" "$made/sd1/no-name"
same sd1 -m "$made/sd1/no-name"

# ---- records --------------------------------------------------------------------------------------------

file=$made/sd1/model.safetensors
sum=$(sha256sum < "$file" | cut -d ' ' -f 1)
good   ""                                         image -m "$file" "$@" -o "$dir/x.png"
good   "$sum model.safetensors"                   inspect "$dir/x.png"
check  "the file is named once"                   [ "$(grep -ao "$sum" "$dir/x.png" | wc -l)" = 1 ]
good   "same"                                     verify "$dir/x.png" -m "$file"
good   "same"                                     verify "$dir/x.png" --sd "$file" -t 2 --isa c
good   "model_ema"                                inspect "$file"
good   "holds	a Stable Diffusion 1.x checkpoint" inspect "$file"
good   "rest	3 tensors	2 of model_ema ignored	1 of the schedule ignored	0 unknown" inspect "$file"
grep -q "^unet	.*	0 ignored	0 unknown	0 missing" "$out" || wrong="no line of the UNet"
verdict "the UNet is accounted for"
good   '"holds": "a Stable Diffusion 2.x checkpoint", "supported": true' inspect --json "$made/sd2/model.safetensors"
grep -q '"part": "text_encoder", "tensors": 41, "bound": 28, "ignored": 13, "unknown": 0' "$out" || wrong="$(grep text_enc "$out")"
verdict "the text encoder of SD 2 is accounted for"

# ---- tokenizers -----------------------------------------------------------------------------------------

alone=$made/alone/model.safetensors
mkdir "$made/bundle"
ln -s "$PWD/$models/clip" "$made/bundle/clip"
for part in unet vae text_encoder scheduler; do ln -s "$PWD/$models/sd1/$part" "$made/alone/$part"; done
fails  "no tokenizer beside it, want tokenizer/, tokenizer.json or vocab.json + merges.txt" image -m "$alone" "$@" -o "$dir/y.png"
same   sd1 -m "$alone" --tokenizer $models/sd1/tokenizer
same   sd1 -m "$made/bundle" --sd "$alone"
good   ""                                         tokenize -m "$file" -p "a cat"
cp "$out" "$dir/ids"
good   ""                                         tokenize -m $models/sd1 -p "a cat"
cp "$out" "$dir/other"
check  "the same ids"                             cmp "$dir/ids" "$dir/other"
cp $models/sd1/tokenizer/vocab.json $models/sd1/tokenizer/merges.txt "$made/alone"
good   ""                                         image -m "$alone" "$@" -o "$dir/y.png"

# ---- open_clip ------------------------------------------------------------------------------------------

for clip in clip clip-gelu; do
    set -- -p "x y z" --json
    [ $clip = clip ] && set -- "$@" $models/pictures/exact.png
    good "" embed -m $models/$clip "$@"
    cp "$out" "$dir/vectors"
    good "" embed -m "$made/$clip" "$@"
    cp "$out" "$dir/other"
    check "the same vectors" cmp "$dir/vectors" "$dir/other"
done
good   "62 tensors	62 bound	0 ignored	0 unknown	0 missing" inspect "$made/clip"
mv "$made/clip/vocab.json" "$made/clip/hidden"
fails  "$made/clip: "                             embed -m "$made/clip" -p cat
good   ""                                         embed -m "$made/clip" -p cat --tokenizer $models/clip

# ---- refusals -------------------------------------------------------------------------------------------

fails  "model: found a Stable Diffusion 1.x checkpoint, want a CLIP folder" embed -m "$file" -p cat
fails  "model: found a UNet of a diffusers folder: give the whole folder, want a Stable Diffusion folder or a .safetensors checkpoint" image -m $models/sd1/unet/diffusion_pytorch_model.safetensors -p cat -o "$dir/y.png"
fails  "model: found a VAE of a diffusers folder" image -m $models/sd1/vae/diffusion_pytorch_model.safetensors -p cat -o "$dir/y.png"
fails  "model: found a LoRA: add it to a model with --lora" image -m $models/adapters/lora-kohya.safetensors -p cat -o "$dir/y.png"
fails  "model: found an open_clip model: give its folder, with open_clip_config.json" embed -m "$made/clip/open_clip_model.safetensors" -p cat
fails  "model: found tensors of no known model"   image -m $models/sd1/reference.safetensors -p cat -o "$dir/y.png"
printf 'PK\003\004 and more bytes than that' > "$dir/model.ckpt"
fails  "want a model folder or a .safetensors checkpoint" image -m "$dir/model.ckpt" -p cat -o "$dir/y.png"
good   "holds	a LoRA, not read as a model"        inspect $models/adapters/lora-kohya.safetensors
closing
