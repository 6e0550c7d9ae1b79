# valgrind.sh - whole runs of the tiny models under valgrind: nothing uninitialised decides or is written, nothing
# is lost.  Prints `N passed, N failed`.
program=${FUSION:-./fusion}
models=tests/models
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
passed=0
failed=0

clean() {
    if OMP_NUM_THREADS=1 valgrind -q --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite \
        --error-exitcode=99 "$program" "$@" > "$dir/out" 2> "$dir/log"; then passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED $*"
        tail -n 20 "$dir/log"
    fi
}

small="--steps 1 --seed 1 -W 64 -H 64"
clean image -m $models/sd1 -p "a (cat:1.2)" $small -o "$dir/a.png"
clean image -m $models/sd2 -p "a cat" $small -i $models/pictures/rgb.png --mask $models/pictures/rgb.png --strength 1 \
    -o "$dir/b.ppm"
clean audio -m $models/audioldm -p "a bell" --steps 1 --seconds 0.2 --seed 1 --spectrogram "$dir/c.png" -o "$dir/c.wav"
clean embed -m $models/clip -p "a cat" $models/pictures/rgb.png -o "$dir/d.safetensors"
clean classify -m $models/clap --labels "a bell,rain" "$dir/c.wav"
clean inspect $models/sd1 --stats
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
