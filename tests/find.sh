# find.sh - index, search, organize, duplicates: what is read again, odd names, interruptions, moves.
# Run from the repository root.  Closes with `N passed, N failed`.
. tests/command.sh
clip=$models/clip
clap=$models/clap
lib=$dir/lib
x=$dir/x.safetensors
tab=$(printf '\t')
mkdir "$dir/both" "$lib" "$lib/sub"
ln -s "$PWD/$clip" "$dir/both/clip"
ln -s "$PWD/$clap" "$dir/both/clap"
both="-m $dir/both -t 1"
cp $models/pictures/rgb.png "$lib/a.png"
cp $models/pictures/jpeg-444.jpg "$lib/b with spaces.jpg"
cp $models/pictures/plain.ppm "$lib/sub/c.ppm"
cp tests/sounds/s16.wav "$lib/sub/dog.wav"
echo "no picture" > "$lib/notes.txt"

# counts NAME=N...: lines of the last output.
counts() {
    for pair in "$@"; do grep -qx "${pair%=*}$tab${pair#*=}" "$out" || wrong="$wrong; not $pair"; done
}
# same A B: the same bytes
same() { cmp -s "$1" "$2" || wrong="$wrong; ${1##*/} and ${2##*/} differ"; }
index() { attempt 0 index "$lib" $both -o "$x" "$@"; }

# ---- words --------------------------------------------------------------------------------------------

misuse "operand: missing"                       index
misuse "--output: missing"                      index "$lib" $both
misuse "--output: found what is no file"        index "$lib" $both -o -
misuse "operand: found 'b'"                     index a b $both -o "$x"
misuse "--shard: found '3/2'"                   index "$lib" $both -o "$x" --shard 3/2
misuse "--shard: of no use with --merge"        index "$x" --merge -o "$x" --shard 1/2
misuse "--top: of no use here"                  index "$lib" --top 3
misuse "nothing to look for"                    search "$x" $both
misuse "--minus: found weight 0"                search "$x" $both --minus a::0
misuse "--labels: found 'a/b'"                  organize "$lib" $both --labels a/b,c
misuse "--labels: found '..'"                   organize "$lib" $both --labels ..,c
misuse "--labels: want either"                  organize "$lib" $both
misuse "--undo: want it without"                organize "$lib" --undo x --apply
misuse "--threshold: found '2'"                 duplicates "$lib" $both --threshold 2
fails  "nowhere: cannot read: No such file"     index "$dir/nowhere" $both -o "$x"
fails  "want CLIP"                              index "$lib" -m $models/sd1 -o "$x"
fails  "cannot write"                           index "$lib" $both -o "$dir/nowhere/x.safetensors"
fails  "cannot open"                            search "$x" $both -p a
check  "a failed run leaves nothing"            test ! -e "$x"
good   "--shard I/N"                            help index

# ---- what is read again -------------------------------------------------------------------------------

index; counts pictures=3 sounds=1 added=4 changed=0 unchanged=0 skipped=0; lines 0 "$err"; verdict "index: new"
cp "$x" "$dir/first"
index; counts pictures=3 sounds=1 added=0 unchanged=4; same "$x" "$dir/first"; verdict "index: again"
attempt 0 index "$lib" -m "$dir/both" -o "$dir/two" -t 2; same "$x" "$dir/two"; verdict "index: two threads"
good '{"pictures": 3, "sounds": 1, "added": 0' index "$lib" $both -o "$x" --json
good "total"                                   index "$lib" $both -o "$dir/plan" --plan
check "a plan writes nothing"                  test ! -e "$dir/plan"

mv "$lib/a.png" "$lib/sub/renamed.png"
index; counts renamed=1 added=0 deleted=0 unchanged=3 pictures=3; verdict "index: renamed"
cp "$lib/sub/c.ppm" "$lib/copy.ppm"
index; counts added=1 renamed=0 unchanged=4 pictures=4; verdict "index: copied"
touch -t 200001010000 "$lib/copy.ppm"
index; counts unchanged=5 changed=0; verdict "index: touched"
cp $models/pictures/tiny.png "$lib/copy.ppm"
index; counts changed=1 unchanged=4 added=0; verdict "index: changed"
rm "$lib/copy.ppm"
index; counts deleted=1 unchanged=4 pictures=3; verdict "index: deleted"
mv "$lib/sub/renamed.png" "$lib/a.png"
index; same "$x" "$dir/first"; verdict "index: all as it was, the first bytes"

# Unchanged is not read: the same size and time with other bytes stay what they were.
cp -p "$lib/sub/c.ppm" "$dir/c.ppm"
tr '0' '1' < "$dir/c.ppm" > "$lib/sub/c.ppm"
touch -r "$dir/c.ppm" "$lib/sub/c.ppm"
index; counts unchanged=4; same "$x" "$dir/first"; verdict "index: unchanged by size and time is not read"
touch -t 200102030405 "$lib/sub/c.ppm"
index; counts unchanged=3 changed=1; verdict "index: the same size at another time is read"
cp -p "$dir/c.ppm" "$lib/sub/c.ppm"
index; counts changed=1; same "$x" "$dir/first"; verdict "index: and back"

# ---- broken files, odd names, links ---------------------------------------------------------------------

head -c 100 $models/pictures/rgb.png > "$lib/cut.png"
echo garbage > "$lib/garbage.jpg"
: > "$lib/empty.wav"
index; counts pictures=3 added=0 unchanged=4 skipped=3; lines 4 "$err"
holds "skipped: $lib/cut.png: "; holds "skipped: $lib/garbage.jpg: "; holds "skipped: $lib/empty.wav: "
same "$x" "$dir/first"; verdict "index: broken files are told"
index -q; lines 0 "$err"; counts skipped=3; verdict "index -q: broken files are counted"
rm "$lib/cut.png" "$lib/garbage.jpg" "$lib/empty.wav"

newline=$(printf 'new\nline.png')
tabbed=$(printf 'tab\there.png')
raw=$(printf 'raw\377\300.png')
cp $models/pictures/grey.png "$lib/$newline"
cp $models/pictures/wide.png "$lib/$raw"
cp $models/pictures/one-bit.png "$lib/quote \"'\\.png"
cp $models/pictures/palette.png "$lib/$tabbed"
cp $models/pictures/exact.png "$lib/--top"
ln -s . "$lib/loop"
ln -s "$lib" "$lib/sub/up"
ln -s ring "$lib/ring"
ln -s nowhere.png "$lib/dangling.png"
ln -s a.png "$lib/link.png"
mkfifo "$lib/pipe.png"
index; counts pictures=9 added=6 skipped=2; lines 3 "$err"
holds "ring: cannot read: "; holds "dangling.png: cannot read: No such file"; verdict "index: odd names"
cp "$x" "$dir/odd"
index; counts added=0 unchanged=10; same "$x" "$dir/odd"; verdict "index: odd names again"
attempt 0 search "$x" $both -i "$lib/$newline" --top 1; holds 'new\nline.png'; lines 1 "$out"; verdict "newline"
attempt 0 search "$x" $both -i "$lib/$tabbed" --top 1; holds 'tab\there.png'; verdict "tab"
attempt 0 search "$x" $both -i "$lib/$raw" --top 1; holds "	$raw"; verdict "no UTF-8"
attempt 0 search "$x" $both -i "$lib/$raw" --top 1 --json; holds '"path": "raw'; verdict "no UTF-8 as JSON"
attempt 0 search "$x" $both -i "$lib/quote \"'\\.png" --top 1 --json
holds "quote \\\"'\\\\.png"; verdict "quotes as JSON"
attempt 0 search "$x" $both -i "$lib/a.png" --top 2; holds "1.000000	a.png"; holds "1.000000	link.png"
head -n 1 "$out" | grep -q 'a.png$' || wrong="$wrong; ties by path"; verdict "search: ties by path"
rm "$lib/loop" "$lib/sub/up" "$lib/ring" "$lib/dangling.png" "$lib/link.png" "$lib/pipe.png" "$lib/--top"
if [ "$(id -u)" != 0 ]; then
    mkdir "$lib/closed" && chmod 0 "$lib/closed"
    index; lines 2 "$err"; holds "closed: cannot read: Permission denied"; verdict "index: an unreadable folder"
    chmod 700 "$lib/closed" && rmdir "$lib/closed"
fi
index; counts deleted=2 pictures=7; verdict "index: fewer"

# ---- search -------------------------------------------------------------------------------------------

attempt 0 search "$x" $both -p "a cat"; lines 8 "$out"; verdict "search: pictures and sounds"
sort -t "$tab" -k1,1gr -s "$out" > "$dir/sorted"; same "$out" "$dir/sorted"; verdict "search: best first"
attempt 0 search "$x" $both -p "a cat" --top 3; lines 3 "$out"; verdict "search --top"
attempt 0 search "$x" -m $clip -p "a cat"; lines 7 "$out"; lines 1 "$err"
holds "only pictures are searched"; verdict "search: CLIP alone"
attempt 0 search "$x" --clap $clap -p "a cat"; lines 1 "$out"; holds "sub/dog.wav"; verdict "search: CLAP alone"
attempt 0 search "$x" $both -i "$lib/sub/dog.wav"; lines 1 "$out"; holds "1.000000"; verdict "search: a sound"
good  "	sub/dog.wav"      search "$x" $both -p "http://lake: 12:30, C::D"
fails "cannot open"       search "$x" $both -i "$dir/nowhere.png"
fails "picture, found"    search "$x" $both -i "$lib/notes.txt"
fails "cancel out"        search "$x" $both -p cat --minus cat
good  "total"             search "$x" $both -p cat --plan

# Sums and differences with weights are those of embed's vectors.
fusion embed -m $clip -p "a cat" -p "the sea" "$lib/a.png" $models/pictures/rgb-16.png > "$dir/vectors" 2> "$err"
cp $models/pictures/rgb-16.png "$lib/r.png"
index
attempt 0 search "$x" -m $clip -p "a cat" -i "$lib/a.png::0.5" --minus "the sea::0.25" --top 100
expected=$(awk -F "$tab" '
    { n = split($3, v, " "); s = 0
      for (i = 1; i <= n; i++) s += v[i] * v[i]
      for (i = 1; i <= n; i++) u[NR, i] = v[i] / sqrt(s) }
    END { for (i = 1; i <= n; i++) { q = u[1, i] + 0.5 * u[3, i] - 0.25 * u[2, i]; s2 += q * q; d += q * u[4, i] }
          printf "%.4f", d / sqrt(s2) }' "$dir/vectors")
got=$(awk -F "$tab" '$2 == "r.png" { printf "%.4f", $1 }' "$out")
[ "$got" = "$expected" ] || wrong="$wrong; score $got, by embed $expected"
verdict "search: sums and differences"
attempt 0 search "$x" -m $clip -p "a cat::2" -i "$lib/a.png" -p "the sea::-0.5" --top 100
got=$(awk -F "$tab" '$2 == "r.png" { printf "%.4f", $1 }' "$out")
[ "$got" = "$expected" ] || wrong="$wrong; score $got, by embed $expected"
verdict "search: weights are relative, a negative one is minus"
cp "$lib/a.png" "$dir/p::0.5"
attempt 0 search "$x" -m $clip -i "$dir/p::0.5" --top 1; holds "1.000000	a.png"; verdict "search: a file named so"

# ---- other models, other files ------------------------------------------------------------------------

fails "made with another CLIP model: found" search "$x" -m $models/clip-gelu -p "a cat"
fails "made with another CLIP model: found" index "$lib" -m $models/clip-gelu -o "$x"
fails "want CLIP"                           search "$x" -m $models/sd1 -p "a cat"
cp -r $clip "$dir/near" && chmod -R u+w "$dir/near"
printf '\001' | dd of="$dir/near/model.safetensors" bs=1 seek=200000 conv=notrunc 2> /dev/null
fails "made with another CLIP model"        search "$x" -m "$dir/near" -p "a cat"
fails "found other tensors, want an index"  search $clip/model.safetensors -m $clip -p a
cp $clip/model.safetensors "$dir/precious.safetensors"
fails "found other tensors, want an index"  index "$lib" $both -o "$dir/precious.safetensors"
check "another file stays" cmp $clip/model.safetensors "$dir/precious.safetensors"
head -c 1500 "$x" > "$dir/short.safetensors"
fails "short.safetensors: "                 search "$dir/short.safetensors" $both -p a
fails "short.safetensors: "                 index "$lib" $both -o "$dir/short.safetensors"
fails "is a folder"                         search "$lib" $both -p a
mkdir "$dir/empty"
attempt 0 index "$dir/empty" $both -o "$dir/none"; counts pictures=0 sounds=0; verdict "index: an empty folder"
attempt 0 search "$dir/none" $both -p a; lines 0 "$out"; verdict "search: an empty index"
attempt 0 index "$lib" -m $clip -o "$dir/seen"; counts sounds=0 skipped=1; holds "the model has no CLAP"
verdict "index: CLIP alone skips sounds"
fails "no model compares them"              search "$dir/seen" $both -i "$lib/sub/dog.wav"

# ---- shards -------------------------------------------------------------------------------------------

for i in 1 2 3; do fusion index "$lib" $both --shard $i/3 -o "$dir/$i.st" > /dev/null 2> "$err"; done
good  ""                                    index --merge "$dir/2.st" "$dir/3.st" "$dir/1.st" -o "$dir/merged"
same "$x" "$dir/merged"; verdict "three shards merged are the whole"
good  ""                                    index --merge "$dir/1.st" "$x" -o "$dir/merged"
same "$x" "$dir/merged"; verdict "a file that is twice there counts once"
fails "found shard 1/3, this one is 2/3"    index "$lib" $both --shard 2/3 -o "$dir/1.st"
fails "found shard 1/3"                     index "$lib" $both -o "$dir/1.st"
fusion index "$lib" -m $models/clip-gelu -o "$dir/gelu" > /dev/null 2>&1
fails "made with another CLIP model"        index --merge "$x" "$dir/gelu" -o "$dir/merged"
same "$x" "$dir/merged"; verdict "a failed merge leaves the old file"

# ---- kill -9 in the middle ----------------------------------------------------------------------------

many=$dir/many
mkdir "$many"
i=0
while [ $i -lt 1500 ]; do
    echo "P3 2 1 255 $((i % 256)) $((i / 6)) 9 $((i * 7 % 256)) 0 $((i * 31 % 256))" > "$many/$i.ppm"
    i=$((i + 1))
done
fusion index "$many" -m $clip -t 1 -o "$dir/whole" > /dev/null 2> "$err"
$RUN "$FUSION" index "$many" -m $clip -t 1 -o "$dir/killed" > /dev/null 2>&1 &
pid=$!
tries=0
while [ ! -e "$dir/killed" ] && [ $tries -lt 30000 ]; do sleep 0.01; tries=$((tries + 1)); done
kill -9 $pid
wait $pid 2> /dev/null
attempt 0 inspect "$dir/killed"
rows=$(sed -n "s/^image_embeds${tab}F32$tab\[\([0-9]*\),.*/\1/p" "$out")
[ "${rows:-0}" -ge 256 ] && [ "$rows" -lt 1500 ] || wrong="$wrong; killed with $rows of 1500"
verdict "kill -9 leaves a whole index of what was done"
attempt 0 index "$many" -m $clip -t 1 -o "$dir/killed"; counts "unchanged=$rows" "added=$((1500 - rows))" pictures=1500
same "$dir/whole" "$dir/killed"; verdict "what was killed and resumed has the bytes of an undisturbed run"

# ---- duplicates ---------------------------------------------------------------------------------------

twins=$dir/twins
mkdir "$twins"
cp $models/pictures/jpeg-444.jpg "$twins/a.jpg"
cp $models/pictures/jpeg-444.jpg "$twins/b.jpg"
cp $models/pictures/jpeg-grey.jpg "$twins/c.jpg"
cp $models/pictures/wide.png "$twins/d.png"
attempt 0 duplicates "$twins" $both
holds "1.000000	$twins/a.jpg	$twins/b.jpg	same bytes"; lines 3 "$out"; verdict "duplicates"
attempt 0 duplicates "$twins" $both --threshold 1; lines 1 "$out"; verdict "duplicates: the same bytes"
attempt 0 duplicates "$twins" $both --threshold 0 --json --index "$dir/twins.st"; lines 6 "$out"
holds '"same_bytes": true, "a": "'; verdict "duplicates: as JSON"
attempt 0 index "$twins" $both -o "$dir/twins.st"; counts unchanged=4; verdict "duplicates --index keeps its index"

# ---- organize -----------------------------------------------------------------------------------------

mess=$dir/mess
mkdir -p "$mess/old/deep"
cp $models/pictures/rgb.png "$mess/p.png"
cp $models/pictures/rgb.png "$mess/old/deep/p.png"
cp $models/pictures/wide.png "$mess/$newline"
cp tests/sounds/s16.wav "$mess/old/s.wav"
(cd "$mess" && find . -type f | LC_ALL=C sort) > "$dir/before"
places() { (cd "$mess" && find . -type f ! -name '*.log' | LC_ALL=C sort); }
attempt 0 organize "$mess" $both --labels x; lines 4 "$out"
holds "$mess/p.png	$mess/x/p-2.png"; holds "$mess/old/deep/p.png	$mess/x/p.png"
holds "new\\nline.png	$mess/x/new\\nline.png"; places | cmp -s - "$dir/before" || wrong="$wrong; moved"
verdict "organize: only says"
cp "$out" "$dir/said"
attempt 0 organize "$mess" $both --labels x --apply; same "$out" "$dir/said"
[ -e "$mess/x/p-2.png" ] && [ ! -e "$mess/p.png" ] || wrong="$wrong; not moved"
cmp -s "$mess/x/$newline" $models/pictures/wide.png || wrong="$wrong; another file"
verdict "organize --apply: does what was said"
attempt 0 organize "$mess" $both --labels x; lines 0 "$out"; verdict "organize: nothing left to do"
: > "$mess/p.png"
attempt 1 organize "$mess" --undo "$mess/organize-1.log"; holds "cannot move to $mess/p.png: File exists"
[ -s "$mess/x/p-2.png" ] && [ ! -s "$mess/p.png" ] && [ -e "$mess/organize-1.log" ] || wrong="$wrong; overwritten"
verdict "organize --undo: never over a file"
rm "$mess/p.png"
attempt 0 organize "$mess" --undo "$mess/organize-1.log"; lines 1 "$out"
places | cmp -s - "$dir/before" || wrong="$wrong; not as before"
[ ! -e "$mess/x" ] && [ ! -e "$mess/organize-1.log" ] || wrong="$wrong; something is left"
verdict "organize --undo: all as before"
attempt 0 organize "$mess" $both --labels x,y --threshold 1; lines 0 "$out"; verdict "organize --threshold"
printf '# fusion organize: fusion organize DIR --undo THIS takes it back\nmoved\tp.png\t../../etc/passwd\n' > "$dir/evil.log"
fails "line 2: found 'moved'" organize "$mess" --undo "$dir/evil.log"
fails "found no log"          organize "$mess" --undo "$lib/notes.txt"
touch "$mess/z"
fails "z: cannot make this folder: Not a directory" organize "$mess" $both --labels z --apply
places | grep -v '/z$' | cmp -s - "$dir/before" || wrong="$wrong; moved"; verdict "organize: a file in the folder's place"

closing
