# same.sh PROGRAM... - the same bytes from every program, thread count and instruction set, and from the machine
# where tests/hashes.txt was recorded.  `sh tests/same.sh --record PROGRAM` writes that file.
# RUN is put before each program: an emulator for cross builds.  DEVICE=opencl: by that device, not by threads.
record=
threads_of="1 2 3 7"
[ -n "$DEVICE" ] && threads_of=1
[ "$1" = --record ] && { record=1; shift; }
passed=0
failed=0
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT

# make NAME PROGRAM OPTIONS... - one output, its sha256 on standard output
make_one() {
    name=$1 program=$2
    shift 2
    case $name in
    sd1.ppm) $RUN "$program" image -m tests/models/sd1 -p "a photo of a cat" -n "a dog" --seed 7 \
        --steps 4 -W 64 -H 48 --sampling-method euler_a -q -o "$dir/$name" "$@" ;;
    sd2.ppm) $RUN "$program" image -m tests/models/sd2 -p "un marché animé" --seed 11 --steps 3 \
        -W 72 -H 104 --sampling-method dpm++2m --schedule karras -q -o "$dir/$name" "$@" ;;
    audio.wav) $RUN "$program" audio -m tests/models/audioldm -p "un marché animé" --seed 3 --steps 3 \
        --seconds 0.1777 -q -o "$dir/$name" "$@" ;;
    clap.safetensors) $RUN "$program" embed -m tests/models/clap -p "a dog barks" \
        tests/sounds/s16.wav -q -o "$dir/$name" "$@" ;;
    clip.safetensors) $RUN "$program" embed -m tests/models/clip -p "a photo of a cat" -p "雪の中の小屋" \
        tests/models/pictures/rgb.png tests/models/pictures/jpeg-420.jpg -q -o "$dir/$name" "$@" ;;
    esac && sha256sum < "$dir/$name" | cut -d' ' -f1
}

for program in "$@"; do
    isas=$($RUN "$program" version | sed -n 's/^instruction sets.//p' | tr -d ',')
    for name in sd1.ppm sd2.ppm audio.wav clip.safetensors clap.safetensors; do
        want=$(sed -n "s/ $name\$//p" tests/hashes.txt 2>/dev/null)
        if [ -n "$record" ]; then
            make_one $name "$program" 2> "$dir/said" | sed "s/\$/ $name/" >> "$dir/hashes"
            continue
        fi
        for isa in ${DEVICE:-$isas}; do
            for threads in $threads_of; do
                way="--isa $isa -t $threads"
                [ -n "$DEVICE" ] && way="--device $DEVICE"
                got=$(make_one $name "$program" $way 2> "$dir/said")
                if [ "$got" = "$want" ]; then
                    passed=$((passed + 1))
                else
                    failed=$((failed + 1))
                    echo "$program $name $way: got $got, want $want"
                    cat "$dir/said"
                fi
            done
        done
    done
done
[ -n "$record" ] && { cp "$dir/hashes" tests/hashes.txt; exit; }
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
