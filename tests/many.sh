# many.sh - 20,000 pictures indexed, killed in the middle and taken up again: the same index as that of a
# run left alone.  Run from the repository root; prints `N passed, N failed`.  COUNT=N for fewer pictures.
. tests/command.sh
count=${COUNT:-20000}
model=$(dirname "$FUSION")/weights/tiny

mkdir "$dir/pictures"
awk -v count="$count" -v folder="$dir/pictures" 'BEGIN {
    srand(7)
    for (i = 0; i < count; i++) {
        file = sprintf("%s/%05d.ppm", folder, i)
        printf "P3 4 4 255" > file
        for (k = 0; k < 48; k++) printf " %d", 256 * rand() > file
        close(file)
    }
}'
"$FUSION" index "$dir/pictures" -m "$model" -o "$dir/whole.safetensors" -q > /dev/null &
whole=$!
"$FUSION" index "$dir/pictures" -m "$model" -o "$dir/cut.safetensors" -q -t 1 > /dev/null &
cut=$!
until [ -e "$dir/cut.safetensors" ] || ! kill -0 $cut 2> /dev/null; do sleep 0.2; done
check "killed in the middle" kill -9 $cut
wait $cut 2> /dev/null
wait $whole
attempt 0 index "$dir/pictures" -m "$model" -o "$dir/cut.safetensors" --json
seen=$(sed -n 's/.*"unchanged": \([0-9]*\).*/\1/p' "$out")
[ "${seen:-0}" -gt 0 ] && [ "$seen" -lt "$count" ] || wrong="$wrong; $seen of $count were there"
verdict "index: taken up again"
check "the same index" cmp "$dir/whole.safetensors" "$dir/cut.safetensors"
closing
