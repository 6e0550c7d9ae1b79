# fuzz.sh PROGRAM [LIMIT...] - every parser: its corpus in tests/fuzz once, then mutants up to libFuzzer's limit.
# Without a limit PROGRAM is the replay of make faults: each file, and again with calls failing in turn.  RUN is
# put before it: an emulator.
# A finding is left beside PROGRAM and named.  Prints executions a target, and `N passed, N failed`.
program=$1
shift
folder=$(dirname "$program")
passed=0
failed=0

replay() { $RUN "$folder/fuzz_$target" "$corpus"* > "$log" 2>&1; }
mutate() {
    limits="-timeout=20 -rss_limit_mb=2048 -max_len=16384 -artifact_prefix=$folder/$target-"
    mkdir -p "$folder/found/$target"
    "$folder/fuzz_$target" -runs=0 $limits "$corpus" > "$log" 2>&1 \
        && "$folder/fuzz_$target" "$@" -print_final_stats=1 $limits \
            "$folder/found/$target" "$corpus" > "$log" 2>&1 \
        && echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") runs"
}

for corpus in tests/fuzz/*/; do
    target=$(basename "$corpus")
    log=$folder/$target.log
    ln -f "$program" "$folder/fuzz_$target"
    if if [ $# -eq 0 ]; then replay; else mutate "$@"; fi; then passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED $target: see $log"
        tail -n 20 "$log"
    fi
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
