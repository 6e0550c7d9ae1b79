# mask.sh - masks, variations, tiles, previews, films, maps and sheets of `image`: against the reference, the same
# picture with and without, replay, refusals.  Run from the repository root.  tests/masks.py made the reference.
. tests/command.sh
sd=$models/sd1
made=$models/inpaint
nine=$dir/nine
mkdir "$nine"
for part in scheduler text_encoder tokenizer vae; do ln -s "$PWD/$sd/$part" "$nine/$part"; done
for part in unet model_index.json; do ln -s "$PWD/$made/$part" "$nine/$part"; done
plain="image -q -n dark --steps 4 --cfg-scale 5 --seed 7 -W 64 -H 64 --sampling-method ddim"
make="$plain -t 1 -m $sd"
from="-i $made/picture.png --mask $made/mask.png"
cat="a photo of a cat"

# ---- against the reference ------------------------------------------------------------------------------

# like NAME ARGS: the final latents are those of the reference.
like() {
    name=$1
    shift
    good "" $plain -p "$cat" -o "$dir/x.png" --save-latents "$dir/latents.safetensors" "$@"
    good "latents" compare "$dir/latents.safetensors" "$made/latents-$name.safetensors" --tolerance 1e-4
}
like ddim -m $sd $from
like wide -m $sd -i $made/picture.png --mask $made/wide-mask.png
like nine -m "$nine" $from
like tiles -m $sd --tiling
like varied -m $sd --variation-seed 11 --variation-strength 0.3
like placed -m $sd --variation-seed 11 --variation-strength 0.3 --noise-size 40x88

# ---- replay: the same at any thread count, and made again ------------------------------------------------

# again ARGS: the same picture with other threads, in plain C, and by verify (INPUTS)
again() {
    good "" $plain -p "$cat" -o "$dir/a.png" "$@"
    for with in "-t 1" "-t 3" "-t 7 --isa c"; do
        good "" $plain -p "$cat" -o "$dir/b.png" $with "$@"
        check "the same picture with $with" cmp "$dir/a.png" "$dir/b.png"
    done
}
again -m $sd $from --feather 5
good   "same"                                     verify "$dir/a.png" -m $sd $from
fails  "give it with --mask FILE"                 verify "$dir/a.png" -m $sd -i $made/picture.png
fails  "was made from"                            verify "$dir/a.png" -m $sd -i $made/picture.png --mask $made/wide-mask.png
good   "feather = 5"                              inspect "$dir/a.png"
again -m "$nine" $from
good   "same"                                     verify "$dir/a.png" -m "$nine" $from
misuse "--mask: of no use"                        verify "$dir/a.png" -m "$nine" --mask $made/mask.png
again -m $sd --tiling
good   "same"                                     verify "$dir/a.png" -m $sd
good   "tiling = true"                            inspect "$dir/a.png"
again -m $sd --variation-seed 0 --variation-strength 0.3
good   "same"                                     verify "$dir/a.png" -m $sd
good   "variation-seed = 0"                       inspect "$dir/a.png"
good   ""                                         $make -p cat -o "$dir/a.png"
good   "same"                                     verify "$dir/a.png" -m $sd
wrong=
grep -aqE 'variation|feather|tiling|mask' "$dir/a.png" && wrong="an option that was not given is in it"
verdict "what was not given is not written"

# ---- variations: the ends are the two seeds, a batch counts the variation --------------------------------

latents="$make -p cat -o $dir/x.png --save-latents"
good   ""                                         $latents "$dir/l0.safetensors"
good   ""                                         $latents "$dir/l1.safetensors" --variation-seed 9 --variation-strength 0
check  "strength 0 is the seed"                   cmp "$dir/l0.safetensors" "$dir/l1.safetensors"
good   ""                                         image -q -m $sd -n dark --steps 4 --cfg-scale 5 --seed 9 -W 64 -H 64 --sampling-method ddim -p cat -o "$dir/x.png" --save-latents "$dir/l0.safetensors"
good   ""                                         $latents "$dir/l1.safetensors" --variation-seed 9 --variation-strength 1
good   "latents"                                  compare "$dir/l1.safetensors" "$dir/l0.safetensors" --tolerance 1e-4
good   ""                                         $make -p cat -b 2 --variation-seed 9 --variation-strength 0.5 -o "$dir/v-%d.png"
good   ""                                         $make -p cat --variation-seed 10 --variation-strength 0.5 -o "$dir/v.png"
check  "a batch counts the variation seed"        cmp "$dir/v.png" "$dir/v-1.png"
good   "same"                                     verify "$dir/v-1.png" -m $sd

# ---- what is seen of a run ------------------------------------------------------------------------------

good   ""                                         $make -p "$cat" -o "$dir/a.png"
good   "photo	0."                               image -v -n dark --steps 4 --cfg-scale 5 --seed 7 -W 64 -H 64 --sampling-method ddim -m $sd -p "$cat" -o "$dir/b.png" --preview "$dir/p.png" --film "$dir/f.png" --heatmap "$dir/maps"
check  "views do not change the picture"          cmp "$dir/a.png" "$dir/b.png"
good   "64x64"                                    inspect "$dir/p.png"
good   "320x64"                                   inspect "$dir/f.png"
good   "64x64"                                    inspect "$dir/maps/05-cat.png"
wrong=
[ "$(ls "$dir/maps" | tr '\n' ' ')" = "01-a.png 02-photo.png 03-of.png 04-a.png 05-cat.png " ] || wrong=$(ls "$dir/maps")
verdict "a map a word"
cp -r "$dir/maps" "$dir/first"
cp "$dir/p.png" "$dir/f.png" "$dir/first"
for with in "-t 1" "-t 2" "-t 3" "-t 7 --isa c"; do
    good "" $plain -m $sd -p "$cat" $with -o "$dir/b.png" --preview "$dir/maps/p.png" --film "$dir/maps/f.png" --heatmap "$dir/maps"
    check "the same views with $with" diff -r "$dir/maps" "$dir/first"
done
good   '"word": "cat", "share": 0.0'              $make -p "$cat" --json -o "$dir/b.png" --heatmap "$dir/maps"
good   ""                                         $make -p "a/b .. 猫" -o "$dir/b.png" --heatmap "$dir/odd"
check  "names that are safe"                      [ "$(ls "$dir/odd" | grep -c /)" = 0 ]
check  "other scripts stay"                       [ -e "$dir/odd/05-猫.png" ]
good   ""                                         $make -p cat -b 3 -o "$dir/b-%d.png" --preview "$dir/p.ppm" --film "$dir/f-%02d.png" --heatmap "$dir/m%d" --contact-sheet "$dir/sheet.png"
check  "a film and maps a picture"                [ -e "$dir/f-02.png" -a -e "$dir/m2/01-cat.png" -a ! -e "$dir/m3" ]
good   "128x128"                                  inspect "$dir/sheet.png"
good   ""                                         $make -p cat -b 2 -o "$dir/c-%d.png"
check  "the batch with views is that without"     cmp "$dir/b-1.png" "$dir/c-1.png"
good   ""                                         $make -p cat --candidates 2 --clip $models/clip -o "$dir/b.png" --preview "$dir/p.png"
good   "preview"                                  image -m $sd --plan --film "$dir/none.png" -W 64 -H 64
good   ""                                         $make -p cat $from -o "$dir/b.png" --preview "$dir/b.png" --scratch "$dir/scratch"
check  "the picture comes after its preview"      [ ! -e "$dir/scratch" ]

good   "encode"                                   image -m "$nine" --plan -W 64 -H 64 $from
fails  "--max-mem: found 1.0K"                    $make -p cat --heatmap "$dir/none" -o "$dir/none.png" --max-mem 1K
for with in "" "--film $dir/x.png" "--heatmap $dir/x"; do
    fusion image -m $sd --plan --json -W 64 -H 64 -p cat $with | sed -n 's/.*total.*"memory": \([0-9]*\),.*/\1/p'
done > "$dir/plans"
check  "three plans"                              [ "$(wc -l < "$dir/plans")" = 3 ]

# ---- the grid of the latents, and maps that cannot all be written -----------------------------------------

# pgm CONDITION: 64x64, white where the condition in x and y of awk holds.
pgm() {
    printf 'P2\n64 64\n255\n'
    awk "BEGIN { for (y = 0; y < 64; y++) for (x = 0; x < 64; x++) print ($1) ? 255 : 0 }"
}
pgm "x < 32" > "$dir/left.pgm"
pgm "x < 32 && x % 8 == 0 && y % 8 == 0" > "$dir/dots.pgm"
pgm "x % 8 == 1" > "$dir/beside.pgm"
for mask in left dots; do
    good "" $make -p cat -i $made/picture.png --mask "$dir/$mask.pgm" -o "$dir/x.png" --save-latents "$dir/$mask.safetensors"
done
check  "a mask counts at every 8th pixel"         cmp "$dir/left.safetensors" "$dir/dots.safetensors"
fails  "found nothing white at any 8th pixel"     $make -p cat -i $made/picture.png --mask "$dir/beside.pgm" -o "$dir/none.png"
mkdir -p "$dir/taken/05-cat.png"
fails  "05-cat.png: "                             $make -p "$cat" -o "$dir/none.png" --heatmap "$dir/taken" --film "$dir/late.png"
check  "all maps or none"                         [ "$(ls "$dir/taken")" = 05-cat.png -a ! -e "$dir/none.png" -a ! -e "$dir/late.png" ]

# ---- refusals -------------------------------------------------------------------------------------------

no=$dir/none.png
misuse "--mask: of no use without -i"             $make -p x --mask $made/mask.png -o $no
misuse "--feather: of no use without --mask"      $make -p x -i $made/picture.png --feather 3 -o $no
misuse "--feather: found '-1'"                    $make -p x $from --feather -1 -o $no
misuse "--variation-seed: of no use without --variation-strength" $make -p x --variation-seed 3 -o $no
misuse "--variation-strength: of no use without --variation-seed" $make -p x --variation-strength 0.3 -o $no
misuse "--variation-strength: found '1.1'"        $make -p x --variation-seed 3 --variation-strength 1.1 -o $no
misuse "--variation-seed: found '18446744073709551615', want room" $make -p x -b 2 --variation-seed 18446744073709551615 --variation-strength 0.3 -o "$dir/x-%d.png"
misuse "--contact-sheet: of no use without -b"    $make -p x --contact-sheet $no
misuse "--mask: none, and $nine/unet"             $plain -m "$nine" -p x -o $no
misuse "--mask: none, and $nine/unet"             $plain -m "$nine" -p x -i $made/picture.png -o $no
fails  "none.png: "                               $make -p x -i $made/picture.png --mask "$dir/none.png" -o $no
printf 'P5\n2 2\n255\n\0\0\0\0' > "$dir/black.pgm"
fails  "black.pgm: mask: found nothing white"     $make -p x -i $made/picture.png --mask "$dir/black.pgm" -o $no
printf 'P5\n1 1\n255\n\377' > "$dir/white.pgm"
good   ""                                         $make -p x -i $made/picture.png --mask "$dir/white.pgm" -o "$dir/x.png"
misuse "--film: found 'x.ppm', want a name that ends in .png" $make -p x --film x.ppm -o $no
misuse "--preview: found 'x.gif'"                 $make -p x --preview x.gif -o $no
misuse "--preview: found '-'"                     $make -p x --preview - -o $no
misuse "--film: found '$dir/x.png', the name of --output too" $make -p x --film "$dir/x.png" -o "$dir/x.png"
misuse "--film: found 'f.png', want %d in it"     $make -p x -b 2 --film f.png -o "$dir/x-%d.png"
misuse "--heatmap: found '$dir/h', want %d in it" $make -p x -b 2 --heatmap "$dir/h" -o "$dir/x-%d.png"
misuse "--heatmap: the prompt has no words"       $make -p " " --heatmap "$dir/h" -o $no
misuse "--film: of no use with --candidates"      $make -p x --candidates 2 --film "$dir/h.png" -o $no
fails  "x.png: cannot write: it is no folder"     $make -p x --heatmap "$dir/x.png" -o $no
fails  "nowhere"                                  $make -p x --heatmap "$dir/nowhere/h" -o $no
fails  "nowhere"                                  $make -p x --film "$dir/nowhere/f.png" -o $no
fails  "nowhere"                                  $make -p x --preview "$dir/nowhere/f.png" -o $no
misuse "--mask: of no use here"                   audio -p x --mask $made/mask.png
check  "nothing is left of what was refused"      [ ! -e "$no" -a ! -e "$dir/h" -a ! -e "$dir/h.png" ]
check  "no temporary files"                       [ -z "$(find "$dir" -name '*.tmp*' -o -name '.*fusion*')" ]
closing
