# opencl.sh PROGRAM TEST - the command on an OpenCL device: the CPU's bytes, and every failure as one line, with
# a libOpenCL that fails on purpose (opencl_shim.c).  PROGRAM and TEST (test_opencl) are built with OPENCL=1; a
# device must be there (Debian: pocl-opencl-icd).
FUSION=$1
test=$2
. tests/command.sh
sd="-m $models/sd1 -p cat --steps 1 -W 64 -H 64 --seed 1 -q"
mkdir "$dir/lib"
cp "$FUSION" "$dir/fusion" && ln -s "$PWD/weights" "$dir/weights" || exit 1          # where selftest looks
FUSION=$dir/fusion
REAL=$(PATH=$PATH:/sbin ldconfig -p | sed -n 's/.*libOpenCL\.so\.1 .*=> //p' | head -n 1)
${CC:-cc} -shared -fPIC tests/opencl_shim.c -ldl -o "$dir/lib/libOpenCL.so.1" || exit 1
export REAL

# sure DESCRIPTION COMMAND...
sure() {
    said=$1
    shift
    if "$@" > "$out" 2> "$err"; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        echo "FAILED $said"
        tail -n 5 "$out" "$err"
    fi
}
# broken FAULT FRAGMENT ARGS - one line, exit 1, no file
broken() {
    export FAULT=$1 LD_LIBRARY_PATH="$dir/lib"
    shift
    fails "$@" --device opencl -o "$dir/broken.png"
    unset FAULT LD_LIBRARY_PATH
    sure "no file, nothing left" sh -c "[ ! -e '$dir/broken.png' ] && ! grep -q 'objects left' '$err'"
}
# with FAULT COMMAND...
with() {
    FAULT=$1 LD_LIBRARY_PATH="$dir/lib" sh -c 'shift; exec "$@"' sh "$@"
}
quiet_end() { with "$@" 2> "$dir/left" && ! grep -q 'objects left' "$dir/left"; }

good   "opencl:0"                                          version
good   '"opencl:0"'                                        version --json
misuse "--device: found 'gpu', want one of cpu, opencl, opencl:N" image $sd --device gpu
fails  "--device: found 'opencl:77', this machine has"     image $sd --device opencl:77 -o "$dir/x.png"
sure   "the recorded bytes, by a device"                   env DEVICE=opencl sh tests/same.sh "$FUSION"
sure   "the recorded bytes of the shipped weights"         "$FUSION" selftest --device opencl
sure   "every operation"                                   "$test"
mkdir "$dir/none" && : > "$dir/none/libOpenCL.so.1" && : > "$dir/none/libOpenCL.so"
export LD_LIBRARY_PATH="$dir/none"
fails  "OpenCL: found no libOpenCL.so.1"                   image $sd --device opencl -o "$dir/x.png"
good   "OpenCL: found no libOpenCL.so.1"                   version
unset LD_LIBRARY_PATH
broken platform "OpenCL: found no platform"                image $sd
broken device   "without a device"                         image $sd
broken build    "compiling the kernels: line 7: error: broken on purpose" image $sd
broken memory   "out of device memory"                     image $sd
broken piece    "more than the device gives in one piece"  image $sd
for last in 0 1 40 300; do
    LAST=$last
    export LAST
    broken lost "device lost"                              image $sd
done
fusion image $sd -o "$dir/cpu.png"
sure   "a device of 4 MB"           with small "$FUSION" image $sd --device opencl -o "$dir/small.png"
sure   "the same picture there"     cmp "$dir/cpu.png" "$dir/small.png"
sure   "operations without doubles" with float "$test"
sure   "none left after 100 runs"   quiet_end none "$FUSION" image $sd -b 100 --device opencl -o "$dir/run%d.png"
sure   "the last of them"           cmp "$dir/run0.png" "$dir/cpu.png"
closing
