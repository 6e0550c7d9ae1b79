# fuzz.sh PROGRAM LIMIT... - every parser: its corpus in tests/fuzz once, then mutants up to libFuzzer's limit.
# A finding is left in build/fuzz and named.  Prints executions a target, and `N passed, N failed`.
program=$1
shift
folder=$(dirname "$program")
passed=0
failed=0
for corpus in tests/fuzz/*/; do
    target=$(basename "$corpus")
    ln -f "$program" "$folder/fuzz_$target"
    mkdir -p "$folder/found/$target"
    log=$folder/$target.log
    limits="-timeout=20 -rss_limit_mb=2048 -max_len=16384 -artifact_prefix=$folder/$target-"
    if "$folder/fuzz_$target" -runs=0 $limits "$corpus" > "$log" 2>&1 \
        && "$folder/fuzz_$target" "$@" -print_final_stats=1 $limits \
            "$folder/found/$target" "$corpus" > "$log" 2>&1; then
        passed=$((passed + 1))
        echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") runs"
    else
        failed=$((failed + 1))
        echo "FAILED $target: see $log"
        tail -n 20 "$log"
    fi
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
