# gates.sh - does each gate fail when the thing is wrong?  A copy of the tree is broken on purpose, one break at a
# time, and the gate that should see it must fail.  Builds of faults, memory and threads are taken over if there.
# Prints `N passed, N failed`.
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/build"
cp -a ./*.c ./*.h ./*.cl Makefile fusion tests examples doc "$dir" || exit
ln -s "$PWD/weights" "$dir/weights"
cp -a build/*.o build/*.d build/flags "$dir/build"
for made in faults memory threads; do cp -a build/$made "$dir/build" 2> /dev/null; done
cd "$dir" || exit
passed=0
failed=0

# broken NAME FILE EDIT GATE - EDIT is a sed script, or a line to be added behind a +
broken() {
    cp -a "$2" kept
    case $3 in
    +*) printf '%s\n' "${3#+}" >> "$2" ;;
    *) sed -i "$3" "$2" ;;
    esac
    if cmp -s "$2" kept; then
        failed=$((failed + 1))
        echo "FAILED $1: nothing was broken"
    elif sh -c "$4" > log 2>&1; then
        failed=$((failed + 1))
        echo "FAILED $1: its gate passed"
        tail -n 5 log
    elif grep -qE ': (fatal )?error: |No rule|not found' log; then
        failed=$((failed + 1))
        echo "FAILED $1: its gate did not run"
        grep -E ': (fatal )?error: |No rule|not found' log | head -n 5
    else passed=$((passed + 1))
    fi
    mv kept "$2"
    touch "$2"
}

sane="-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined"
broken 'a banned call' io.c '+int number(const char *s); int number(const char *s) { return atoi(s); }' 'sh tests/rules.sh'
broken 'an array of variable length' io.c '+int sum(int n); int sum(int n) { int a[n]; a[0] = n; return a[0]; }' \
    'sh tests/rules.sh'
broken 'a reduction across threads' tensor.c '+/* #pragma omp parallel for reduction(+ : x) */' 'sh tests/rules.sh'
broken 'a model that prints' clip.c '+void say(void); void say(void) { printf("x"); }' 'sh tests/rules.sh'
broken 'a library that ends' lora.c '+void end(void); void end(void) { exit(1); }' 'sh tests/rules.sh'
broken 'a line too long' png.c \
    '+/* ------------------------------------------------------------------------------------------------------ */' \
    'sh tests/rules.sh'
broken 'a wrong sign in Winograd' lanes.h '/even_q = vfma/s/-Q2/Q2/' 'make -s build/test_ops && build/test_ops'
broken 'sums in another order' device.h 's/CHUNK = 128, KEY/CHUNK = 64, KEY/' 'make -s -j2 && sh tests/same.sh ./fusion'
broken 'an overlap of tensors unseen' safetensors.c 's/if (t->begin < end)/if (0)/' 'make -s build/test_io && build/test_io'
broken 'a filter of PNG' png.c 's/case 2: return above;/case 2: return 0;/' 'make -s build/test_picture && build/test_picture'
broken 'a leak where memory is short' styles.c 's/^    free(half);$//' \
    "make -s BUILD=build/faults OPENMP=0 CFLAGS='$sane' build/faults/replay && sh tests/fuzz.sh build/faults/replay"
broken 'a failure that is not told' json.c 's/^        if (!c) {/        if (0) {/' \
    "make -s BUILD=build/faults OPENMP=0 CFLAGS='$sane' build/faults/replay && sh tests/fuzz.sh build/faults/replay"
broken 'a value read before it is written' png.c 's/Deflate \*z = calloc(1, sizeof \*z)/Deflate *z = malloc(sizeof *z)/' \
    'make -s memory'
broken 'a race' tensor.c '/^static void product_task/,/^{/s/^{/{ static int runs; runs++;/' 'make -s threads'
broken 'a pointer freed twice' opt.c '+void twice(char *p); void twice(char *p) { free(p); free(p); }' \
    'sh tests/analyze.sh opt.c'
broken 'tests that reach nothing' tests/coverage.py '+' 'mkdir -p empty && python3 tests/coverage.py empty'
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
