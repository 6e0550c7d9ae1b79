# replay.sh PROGRAM - every parser on its corpus in tests/fuzz, each file also with allocations and I/O calls
# failing in turn.  PROGRAM stops at what it finds.  Prints `N passed, N failed`.
program=$1
folder=$(dirname "$program")
passed=0
failed=0
for corpus in tests/fuzz/*/; do
    target=$(basename "$corpus")
    ln -f "$program" "$folder/fuzz_$target"
    if "$folder/fuzz_$target" "$corpus"* > "$folder/$target.log" 2>&1; then passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED $target"
        tail -n 20 "$folder/$target.log"
    fi
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
