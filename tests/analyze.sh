# analyze.sh [FILE.c ...] - gcc -fanalyzer, cppcheck and clang-tidy over every source.  A finding that tests/findings.txt does
# not hold with its reason fails, and so does a line there that no tool finds any more.
# Prints `N passed, N failed`: a finding is a check.  With names, these files alone.
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
checks='-*,clang-analyzer-*,bugprone-*'
# Not asked: opinions (names, casts, the order of parameters), and what knows no variadic function that returns
# false - to these tools `pointer || fail(...)` says nothing of the pointer after it.
for no in bugprone-easily-swappable-parameters bugprone-narrowing-conversions bugprone-reserved-identifier \
    bugprone-implicit-widening-of-multiplication-result bugprone-macro-parentheses bugprone-branch-clone \
    bugprone-assignment-in-if-condition bugprone-suspicious-string-compare bugprone-sizeof-expression \
    bugprone-not-null-terminated-result bugprone-misplaced-widening-cast bugprone-suspicious-include \
    clang-analyzer-security.insecureAPI.DeprecatedOrUnsafeBufferHandling clang-analyzer-valist.Uninitialized \
    clang-analyzer-core.NullDereference clang-analyzer-core.NonNullParamChecker; do
    checks="$checks,-$no"
done
# What the tools say of one file, a line each: tool file check.
cat > "$dir/one" <<'END'
gcc -std=c11 -O1 -fopenmp -fanalyzer -c "$2" -o /dev/null 2>&1 \
    | sed -n "s/^[^ ]*: warning: .*\[-W\(analyzer[a-z-]*\)\].*/gcc $2 \1/p"
clang-tidy-14 --quiet -checks="$1" "$2" -- -std=c11 -I. 2> /dev/null \
    | sed -n "s/^[^ ]*: warning: .*\[\([a-z]*-[A-Za-z.-]*\).*\]\$/clang-tidy $2 \1/p"
cppcheck --enable=warning,portability --std=c11 --quiet --suppress=internalAstError \
    --suppress=missingIncludeSystem "$2" 2>&1 \
    | sed -n "s/^[^ ]*: \(error\|warning\|portability\): .*\[\([a-zA-Z]*\)\]\$/cppcheck $2 \2/p"
END
passed=0
failed=0
ls -S ${*:-*.c} | grep -v '^opencl.c$' | xargs -P 2 -n 1 sh "$dir/one" "$checks" \
    | sort | uniq -c | awk '{ print $2, $3, $4, $1 }' > "$dir/found"        # opencl.c: empty without OPENCL=1
grep -v '^#' tests/findings.txt | cut -d' ' -f1-4 | sort > "$dir/known"
while read -r tool file check count; do
    known=$(sed -n "s/^$tool $file $check //p" "$dir/known")
    if [ "${known:-0}" -ge "$count" ]; then passed=$((passed + 1))
    else failed=$((failed + 1)); echo "FAILED $tool: $file: $check: found $count, known ${known:-0}"
    fi
done < "$dir/found"
while read -r tool file check count; do
    if [ $# -gt 0 ] || grep -q "^$tool $file $check " "$dir/found"; then continue; fi
    failed=$((failed + 1)); echo "FAILED $tool: $file: $check: no longer found, take its line out of tests/findings.txt"
done < "$dir/known"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
