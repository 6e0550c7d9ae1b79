# prompts.sh - weights and chunks of prompts, prompt files and styles of `image`: against the reference, replay,
# reports, refusals.  Run from the repository root.  tests/prompts.py made the reference.
. tests/command.sh
sd=$models/sd1
made=$models/prompts
tab=$(printf '\t')
plain="image -m $sd -q --sampling-method ddim --steps 2 --seed 7 -W 64 -H 64"
make="$plain -o $dir/x.png"

# ---- against the reference ------------------------------------------------------------------------------

while IFS=$tab read -r name model words; do
    eval "set -- $words"
    good "" image -m "$models/$model" -q "$@" -o "$dir/x.png" --save-latents "$dir/latents.safetensors"
    good "latents" compare "$dir/latents.safetensors" "$made/latents-$name.safetensors" --tolerance 5e-5
done < "$made/cases.txt"
check  "all cases ran"                            [ "$passed" -ge 22 ]

# ---- replay: threads, verify, what is the same --------------------------------------------------------------

heavy="a (photo:1.3) of a [cat] BREAK a lighthouse in a storm"
again="$plain --weighting on -n (dark) --embedding $models/adapters/word.safetensors"
good   ""                                         $again -p "$heavy <cat-toy>" -o "$dir/a.png"
good   ""                                         $again -p "$heavy <cat-toy>" -o "$dir/b.png" -t 3 --isa c
check  "the same picture with other threads"      cmp "$dir/a.png" "$dir/b.png"
good   "same"                                     verify "$dir/a.png" -m $sd --embedding $models/adapters/word.safetensors
good   'weighting = "on"'                           inspect "$dir/a.png"
good   ""                                         $make -p "a cat" --save-latents "$dir/a.safetensors"
good   ""                                         $make -p "a cat" --save-latents "$dir/b.safetensors" --weighting on
check  "without brackets there is no difference"  cmp "$dir/a.safetensors" "$dir/b.safetensors"
wrong=
good   ""                                         $make -p "a (cat:1.3)"
grep -aq weighting "$dir/x.png" && wrong="an option that was not given is in it"
verdict "off by default, and not written"
good   "off"                                      help image
for text in "(cat:1.0)" "(cat:+1.)" "(cat : 1 )" "((cat:0.5):2)" "[(cat:1.21):]" "(cat:1.1.1"; do
    good "" $make -p "$text" --weighting on
done

# ---- reports --------------------------------------------------------------------------------------------

few="image -m $sd --sampling-method ddim --steps 1 --seed 7 -W 16 -H 16"
talk="$few -o $dir/x.png"
long=$(printf 'a %.0s' 1 2 3 4 5 6 7 8 9 10)                # one token each
long="$long$long$long$long$long$long$long$long"
good   "prompt: 3 tokens, 1 chunk of 77"          $talk -v -p "a cat"
good   "negative prompt: 4 tokens, 1 chunk of 77" $talk -v -p "a cat" -n dark
good   "prompt: 80 tokens, 1 chunk of 77"         $talk -v -p "$long"
holds  "too long for the text encoder, cut off: a a a a a"
verdict "what was cut off is told"
good   "prompt: 80 tokens, 2 chunks of 77"        $talk -v -p "$long" --weighting on
good   '"prompt": {"text": "a (cat:1.2)", "tokens": 3, "chunks": 1, "cut": ""}' $talk --json -p "a (cat:1.2)" --weighting on
good   '"negative_prompt": {"text": "x \"y\"", "tokens": 4, "chunks": 1, "cut": ""}' $talk --json -p "a" -n 'x "y"'
good   '"tokens": 80, "chunks": 1, "cut": "a a a a a' $talk --json -p "$long"
good   ""                                         $talk -p "$long" --weighting on --heatmap "$dir/maps"
check  "a map a word, in every chunk"             [ -e "$dir/maps/80-a.png" ]
good   ""                                         $talk -p "a (cat:1.3)" --weighting on --heatmap "$dir/few"
check  "brackets are no words"                    [ "$(ls "$dir/few" | tr '\n' ' ')" = "01-a.png 02-cat.png " ]
good   ""                                         $talk -p "a (cat:1.3)" --weighting on --candidates 2 --clip $models/clip
fusion image -m $sd --plan --json -W 64 -H 64 -p "$long" --weighting on > "$dir/two"
fusion image -m $sd --plan --json -W 64 -H 64 -p "$long" > "$dir/one"
wrong=
cmp -s "$dir/one" "$dir/two" && wrong="the same plan"
verdict "two chunks are in the plan"

# ---- prompt files ---------------------------------------------------------------------------------------

printf '\357\273\277a cat\r\n\n  \na (dog:1.3)\nun café, 猫' > "$dir/list.txt"
good   ""                                         $plain --prompt-file "$dir/list.txt" --weighting on -o "$dir/l-%d.png" --contact-sheet "$dir/sheet.png"
good   ""                                         $plain -p "a (dog:1.3)" --weighting on -o "$dir/dog.png"
check  "a line is a prompt"                       cmp "$dir/dog.png" "$dir/l-1.png"
check  "three lines, three pictures"              [ -e "$dir/l-2.png" -a ! -e "$dir/l-3.png" -a -e "$dir/sheet.png" ]
good   "same"                                     verify "$dir/l-2.png" -m $sd
printf 'a cat' > "$dir/one.txt"
good   ""                                         $make --prompt-file "$dir/one.txt"
good   '"text": "un café, 猫"'                    $few --json --prompt-file "$dir/list.txt" -o "$dir/j-%d.png"
check  "a line of JSON a picture"                 [ "$(wc -l < "$out")" = 3 ]
good   "unet"                                     image -m $sd --plan -W 64 -H 64 --prompt-file "$dir/list.txt" -o "$dir/none-%d.png"
misuse "--output: found '$dir/x.png', want %d in it" $make --prompt-file "$dir/list.txt"
misuse "--prompt: of no use with --prompt-file"   $make -p x --prompt-file "$dir/one.txt"
misuse "--batch-count: of no use with --prompt-file" $make -b 2 --prompt-file "$dir/one.txt"
misuse "--heatmap: of no use with --prompt-file"  $make --heatmap "$dir/h" --prompt-file "$dir/one.txt"
printf 'a cat\na \377\376 dog\n' > "$dir/bad.txt"
fails  "bad.txt:2: found bytes that are no UTF-8" $make --prompt-file "$dir/bad.txt"
printf 'a cat\0dog\n' > "$dir/bad.txt"
fails  "bad.txt: found a zero byte, want a text file" $make --prompt-file "$dir/bad.txt"
printf '\n \n' > "$dir/bad.txt"
fails  "bad.txt: found no line with text"         $make --prompt-file "$dir/bad.txt"
: > "$dir/bad.txt"
fails  "bad.txt: found no line with text"         $make --prompt-file "$dir/bad.txt"
fails  "model_index.json.none: "                  $make --prompt-file $sd/model_index.json.none
fails  "want a text file"                         $make --prompt-file $sd/vae/diffusion_pytorch_model.safetensors
printf 'a cat\na <lora:x:1>\n' > "$dir/bad.txt"
misuse "bad.txt:2: prompt: found '<lora:'"        $plain --prompt-file "$dir/bad.txt" --weighting on -o "$dir/none-%d.png"

# ---- styles ---------------------------------------------------------------------------------------------

printf '# mine\nink\tink of {prompt}, black\tcolor\nafter\tby hand\nbare\t{prompt}\t\n' > "$dir/styles"
styled="$plain --styles $dir/styles --style"
good   ""                                         $styled ink -p "a cat" -n dark -o "$dir/a.png"
good   ""                                         $plain -p "ink of a cat, black" -n "dark, color" -o "$dir/b.png"
check  "a style is its words"                     cmp "$dir/a.png" "$dir/b.png"
good   ""                                         $styled after -p "a cat" -o "$dir/a.png"
good   ""                                         $plain -p "a cat, by hand" -o "$dir/b.png"
check  "words behind the prompt"                  cmp "$dir/a.png" "$dir/b.png"
good   "same"                                     verify "$dir/a.png" -m $sd
good   ""                                         $styled ink --prompt-file "$dir/list.txt" -o "$dir/s-%d.png"
good   ""                                         $plain -p "ink of a cat, black" -n color -o "$dir/b.png"
check  "a style on every line"                    cmp "$dir/s-0.png" "$dir/b.png"
[ ! -d "$(dirname "$FUSION")/weights" ] ||         # the shipped styles lie beside the program
    good ""                                       $make --style ink -p cat
misuse "styles: style: found 'none', want one of ink, after, bare" $make --styles "$dir/styles" --style none -p cat
misuse "--styles: of no use without --style"      $make --styles "$dir/styles" -p cat
misuse "--style: of no use without -p"            $make --style ink
printf 'ink\ta\nink\tb\n' > "$dir/styles"
fails  "styles:2: found 'ink' again"              $make --styles "$dir/styles" --style ink -p cat
printf 'ink\ta\tb\tc\n' > "$dir/styles"
fails  "styles:1: want name, prompt and negative prompt, a tab between them" $make --styles "$dir/styles" --style ink -p cat

# ---- refusals -------------------------------------------------------------------------------------------

on="$make --weighting on"
misuse "--weighting: found 'yes', want one of"    $make --weighting yes -p cat
misuse "--weighting: of no use here"              audio --weighting on -p cat
misuse "--prompt: found '<lora:', want the file with --lora" $on -p "a <lora:x:0.5>"
misuse "--prompt: found ':number' in [ ]"         $on -p "[cat:dog:0.5]"
misuse "--prompt: found '|' in [ ]"               $on -p "[cat|dog]"
misuse "--negative-prompt: found '|' in [ ]"      $on -p cat -n "[a|b]"
good   ""                                         $make -p "[cat|dog] <lora:x:0.5> [a:b:0.5]"
deep=$(printf '%070d' 0 | tr 0 '(')
misuse "found more than 64 brackets"              $on -p "${deep}cat"
misuse "found more tokens than 64 chunks of 75 hold" $on -p "$(printf 'BREAK %.0s' $(seq 70))"
closing
