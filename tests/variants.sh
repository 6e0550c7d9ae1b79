# variants.sh - other VAEs, TAESD, a latent consistency model, and other ways to store a folder: against the
# reference, replay, refusals.  Run from the repository root.  tests/variants.py made the reference.
. tests/command.sh
sd=$models/sd1
made=$models/variants
taesd="--vae $made/taesd"
lcm=$dir/lcm
mkdir "$lcm"
for part in vae text_encoder tokenizer; do ln -s "$PWD/$sd/$part" "$lcm/$part"; done
for part in unet scheduler model_index.json; do ln -s "$PWD/$made/$part" "$lcm/$part"; done
plain="image -q -p cat -n dark --steps 4 --cfg-scale 5 --seed 7 -W 64 -H 64"
make="$plain -m $sd -o $dir/x.png"

# like NAME ARGS: the final latents are those of the reference.
like() {
    name=$1
    shift
    good "" image -q -p "a photo of a cat" -n dark --steps 4 --seed 7 -W 64 -H 64 -o "$dir/x.png" --save-latents "$dir/latents.safetensors" "$@"
    good "latents" compare "$dir/latents.safetensors" "$made/latents-$name.safetensors" --tolerance 2e-5
}
from="-i $models/inpaint/picture.png"
like taesd -m $sd --cfg-scale 5 $taesd
like taesd-from -m $sd --cfg-scale 5 $taesd $from --strength 0.6
like taesd-mask -m $sd --cfg-scale 5 $taesd $from --mask $models/inpaint/mask.png --strength 0.75
like lcm -m "$lcm" --cfg-scale 8.5

# ---- another VAE ----------------------------------------------------------------------------------------

good   ""                                         $make $taesd
cp "$dir/x.png" "$dir/a.png"
good   ""                                         $make $taesd -t 3 --isa c
check  "the same picture with other threads"      cmp "$dir/a.png" "$dir/x.png"
good   "same"                                     verify "$dir/a.png" -m $sd $taesd
no     "models differ"                            verify "$dir/a.png" -m $sd
sum=$(sha256sum < $made/taesd/diffusion_pytorch_model.safetensors | cut -d ' ' -f 1)
good   "$sum diffusion_pytorch_model.safetensors" inspect "$dir/a.png"
wrong=
grep -aq "$made" "$dir/a.png" && wrong="a path in it"
verdict "no path of the VAE in the picture"
good   ""                                         $make --vae $sd/vae --save-latents "$dir/a.safetensors"
good   ""                                         $make --save-latents "$dir/b.safetensors"
check  "the model's own VAE by name"              cmp "$dir/a.safetensors" "$dir/b.safetensors"
good   ""                                         $make $taesd --tiling
good   ""                                         $make $taesd --trace "$dir/t.safetensors"
good   "vae.decoder.layers.12"                     inspect "$dir/t.safetensors"
for size in "-W 8 -H 8" "-W 24 -H 40"; do
    good "" image -q -p cat --steps 1 --seed 1 -m $sd -o "$dir/x.png" $size $taesd
done
fails  "nowhere/config.json: "                    $make --vae nowhere
fails  "_class_name: want AutoencoderKL or AutoencoderTiny" $make --vae $sd/unet

# wants MESSAGE SED: TAESD with this change of its config is refused so.
wants() {
    rm -rf "$dir/vae"
    mkdir "$dir/vae"
    ln -s "$PWD/$made/taesd/diffusion_pytorch_model.safetensors" "$dir/vae"
    tr -d '\n' < $made/taesd/config.json | sed "$2" > "$dir/vae/config.json"
    fails "$1" $make --vae "$dir/vae"
}
wants "found gelu, nearest, 2, this program knows only relu, nearest, 2" 's/"relu"/"gelu"/'
wants "found relu, nearest, 4"                    's/"upsampling_scaling_factor": 2/"upsampling_scaling_factor": 4/'
wants "num_decoder_blocks: found a list of 9"     's/"num_decoder_blocks": \[[^]]*/"num_decoder_blocks": [1,1,1,1,1,1,1,1,1/'
wants "num_decoder_blocks: found a list of 0"     's/"num_decoder_blocks": \[[^]]*/"num_decoder_blocks": [/'
wants "num_encoder_blocks: found an array of 4, want 3" 's/"num_decoder_blocks": \[[^]]*/"num_decoder_blocks": [1,1,1/'
wants "num_encoder_blocks: "                      's/"num_encoder_blocks": \[[^]]*/"num_encoder_blocks": [1,0,1,1/'
wants "num_encoder_blocks: found 1.5, want whole numbers" 's/"num_encoder_blocks": \[[^]]*/"num_encoder_blocks": [1,1.5,1,1/'
wants "encoder_block_out_channels: found 8 and 4, want one width" 's/"encoder_block_out_channels": \[[^]]*/"encoder_block_out_channels": [8,8,4,8/'
wants "decoder.layers.0.weight"                   's/"decoder_block_out_channels": \[[^]]*/"decoder_block_out_channels": [4,4,4,4/'
wants "encoder.layers.2.conv.0.weight"            's/"num_encoder_blocks": \[[^]]*/"num_encoder_blocks": [2,1,1,1/'
wants "encoder.layers.8.weight"                   's/"latent_channels": 4/"latent_channels": 8/'
wants "scaling_factor: "                          's/"scaling_factor": 1.0/"scaling_factor": 0/'

# ---- previews -------------------------------------------------------------------------------------------

good   ""                                         $make
cp "$dir/x.png" "$dir/a.png"
good   ""                                         $make --preview "$dir/p.ppm" --film "$dir/f.png" --preview-vae $made/taesd
check  "a preview does not change the picture"    cmp "$dir/a.png" "$dir/x.png"
good   "384x64"                                   inspect "$dir/f.png"
good   ""                                         $make --preview "$dir/p.ppm" --preview-vae $made/taesd --sampling-method euler
good   ""                                         $plain -m $sd $taesd -o "$dir/t.ppm" --preview "$dir/q.ppm" --sampling-method euler
tail -c 12288 "$dir/p.ppm" > "$dir/p"
tail -c 12288 "$dir/t.ppm" > "$dir/t"
check  "the last preview is the VAE's picture"    cmp "$dir/p" "$dir/t"
check  "the map's preview is another"             [ "$(tail -c 12288 "$dir/q.ppm" | cksum)" != "$(cksum < "$dir/p")" ]
good   ""                                         $make --preview "$dir/p2.ppm" --preview-vae $made/taesd --sampling-method euler -t 3 --isa c
check  "the same preview with other threads"      cmp "$dir/p.ppm" "$dir/p2.ppm"
good   "preview"                                  image -m $sd --plan -W 64 -H 64 --film "$dir/none.png" --preview-vae $made/taesd
good   ""                                         $make --preview "$dir/p.ppm" --preview-vae $made/taesd --trace "$dir/t.safetensors"
good   "preview4.decoder.layers.0"                inspect "$dir/t.safetensors"
misuse "--preview-vae: of no use without --preview or --film" $make --preview-vae $made/taesd
fails  "nowhere/config.json: "                    $make --preview "$dir/p.ppm" --preview-vae nowhere

# ---- a consistency model ----------------------------------------------------------------------------------

good   ""                                         $plain -m "$lcm" -o "$dir/a.png"
good   "same"                                     verify "$dir/a.png" -m "$lcm"
good   ""                                         $plain -m "$lcm" -o "$dir/b.png" -t 3 --isa c
check  "the same picture with other threads"      cmp "$dir/a.png" "$dir/b.png"
good   "241 tensors	241 bound	0 ignored	0 unknown	0 missing" inspect "$lcm/unet"
good   ""                                         image -q -p cat --steps 4 --cfg-scale 5 --seed 7 -W 64 -H 64 -m "$lcm" -o "$dir/x.png" --save-latents "$dir/b.safetensors"
good   ""                                         $plain -m "$lcm" -o "$dir/x.png" --save-latents "$dir/a.safetensors"
check  "a negative prompt has no effect"          cmp "$dir/a.safetensors" "$dir/b.safetensors"

# ---- other ways to store a folder -------------------------------------------------------------------------

# stored PART FILE...: sd1 again in $dir/stored, one part of it from these files.
stored() {
    part=$1
    shift
    rm -rf "$dir/stored"
    mkdir -p "$dir/stored/$part"
    for name in vae unet text_encoder tokenizer scheduler model_index.json; do
        [ $name = "$part" ] || ln -s "$PWD/$sd/$name" "$dir/stored/$name"
    done
    cp "$sd/$part/config.json" "$@" "$dir/stored/$part"
}
same() {
    good "" $plain -m "$dir/stored" -o "$dir/x.png" --save-latents "$dir/a.safetensors"
    good "" $make --save-latents "$dir/b.safetensors"
    check "$1" cmp "$dir/a.safetensors" "$dir/b.safetensors"
}
for part in vae unet text_encoder; do
    file=diffusion_pytorch_model
    [ $part = text_encoder ] && file=model
    stored $part
    cp $sd/$part/$file.safetensors "$dir/stored/$part/$file.fp16.safetensors"
    same "$part as a variant"
    for ending in safetensors.index.json safetensors.index.fp16.json; do
        stored $part
        cp $sd/$part/$file.safetensors "$dir/stored/$part/$file-00001-of-00001.safetensors"
        fusion inspect --json $sd/$part/$file.safetensors | sed -n 's/^{"name": "\([^"]*\)".*/\1/p' | awk -v file=$file '
            BEGIN { printf "{\"metadata\": {\"total_size\": 1}, \"weight_map\": {" }
            { printf "%s\"%s\": \"%s-00001-of-00001.safetensors\"", (NR > 1 ? ", " : ""), $0, file }
            END { print "}}" }' > "$dir/stored/$part/$file.$ending"
        same "$part in shards, $ending"
    done
done
LC_ALL=C grep -aq '"encoder.mid_block.attentions.0.proj_attn.weight"' $sd/vae/diffusion_pytorch_model.safetensors || wrong="not in sd1"
verdict "sd1's VAE has the published names"
LC_ALL=C grep -aq '"text_model.embeddings.position_ids"' $sd/text_encoder/model.safetensors || wrong="not in sd1"
verdict "sd1's text encoder has the prefix and position_ids"
stored text_encoder                          # a name shorter, so many spaces behind it
LC_ALL=C sed 's/"text_model\.\([^"]*"\)/"\1           /g' $sd/text_encoder/model.safetensors > "$dir/stored/text_encoder/model.safetensors"
good   "encoder.layers.0.mlp.fc1.weight	F16"        inspect "$dir/stored/text_encoder/model.safetensors"
LC_ALL=C grep -aq text_model "$dir/stored/text_encoder/model.safetensors" && wrong="the prefix is still there"
verdict "the prefix is gone"
same   "a text encoder without the prefix"
closing
