#!/bin/sh
# fetch.sh - published weights, as their authors left them: only the files that fusion reads.
#
#     sh weights/fetch.sh                     the list: name, repository, size, licence
#     sh weights/fetch.sh sd15 [DIR]          into DIR, else weights/NAME; goes on where it stopped
#     sh weights/fetch.sh -n sd15             what would be fetched, and nothing else
#
# The licence is yours to read and follow; it stands at the repository.  $HF_ENDPOINT names another
# mirror of the hub, $FUSION the program that looks at the result ([./fusion] inspect DIR).
site=${HF_ENDPOINT:-https://huggingface.co}
fusion=${FUSION:-./fusion}

# name, repository, GB, licence, files
clip_files="config.json preprocessor_config.json vocab.json merges.txt tokenizer_config.json special_tokens_map.json model.safetensors"
sd_files="model_index.json scheduler/scheduler_config.json tokenizer/vocab.json tokenizer/merges.txt tokenizer/tokenizer_config.json
tokenizer/special_tokens_map.json text_encoder/config.json text_encoder/model.fp16.safetensors unet/config.json
unet/diffusion_pytorch_model.fp16.safetensors vae/config.json vae/diffusion_pytorch_model.fp16.safetensors"
audioldm_files="model_index.json scheduler/scheduler_config.json tokenizer/vocab.json tokenizer/merges.txt tokenizer/tokenizer_config.json
tokenizer/special_tokens_map.json text_encoder/config.json text_encoder/model.safetensors unet/config.json
unet/diffusion_pytorch_model.safetensors vae/config.json vae/diffusion_pytorch_model.safetensors vocoder/config.json
vocoder/model.safetensors"

find_model() {
    case $1 in
    clip-b32) repository=openai/clip-vit-base-patch32 size=0.6 licence=MIT files=$clip_files ;;
    clip-l14) repository=openai/clip-vit-large-patch14 size=1.7 licence=MIT files=$clip_files ;;
    clap) repository=laion/clap-htsat-unfused size=0.6 licence=Apache-2.0 files=$clip_files ;;
    sd15) repository=stable-diffusion-v1-5/stable-diffusion-v1-5 size=2.1 licence=CreativeML-OpenRAIL-M files=$sd_files ;;
    sd14) repository=CompVis/stable-diffusion-v1-4 size=2.1 licence=CreativeML-OpenRAIL-M files=$sd_files ;;
    audioldm-s) repository=cvssp/audioldm-s-full-v2 size=1.6 licence=CC-BY-NC-SA-4.0 files=$audioldm_files ;;
    audioldm-m) repository=cvssp/audioldm-m-full size=2.9 licence=CC-BY-NC-SA-4.0 files=$audioldm_files ;;
    audioldm-l) repository=cvssp/audioldm-l-full size=4.3 licence=CC-BY-NC-SA-4.0 files=$audioldm_files ;;
    *) return 1 ;;
    esac
}

dry=
[ "$1" = -n ] && { dry=1; shift; }
if [ $# = 0 ]; then
    for name in clip-b32 clip-l14 clap sd15 sd14 audioldm-s audioldm-m audioldm-l; do
        find_model $name
        printf '%-12s %-45s about %s GB  %s\n' $name $repository $size $licence
    done
    exit 0
fi
find_model "$1" || { echo "fetch.sh: '$1': not in the list; run it without a name" >&2; exit 2; }
into=${2:-$(dirname "$0")/$1}
echo "$repository: about $size GB, licence $licence, into $into" >&2
for file in $files; do
    url=$site/$repository/resolve/main/$file
    [ -n "$dry" ] && { echo "$url"; continue; }
    [ -e "$into/$file" ] && continue
    mkdir -p "$(dirname "$into/$file")"
    # a file without which the model still opens may be missing from a repository
    curl -fL --retry 3 -C - -o "$into/$file.part" "$url" && mv "$into/$file.part" "$into/$file" \
        || case $file in
           *special_tokens_map.json | *tokenizer_config.json) rm -f "$into/$file.part" ;;
           *) echo "fetch.sh: $url: not fetched" >&2; exit 1 ;;
           esac
done
[ -n "$dry" ] || "$fusion" inspect "$into"
