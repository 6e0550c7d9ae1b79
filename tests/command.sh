# command.sh - what the tests of the command share: sourced by each, after `. tests/command.sh`
# misuse, fails, good, no and check count; end with `closing`.  A temporary folder is $dir, the last
# command's outputs are $out and $err.  FUSION is the program, RUN an emulator before it.
FUSION=${FUSION:-./fusion}
models=tests/models
passed=0
failed=0
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
out=$dir/stdout
err=$dir/stderr
unset FUSION_MODEL

fusion() { $RUN "$FUSION" "$@"; }

# Run the rest; what is wrong, if anything, is left in $wrong.
attempt() {
    want=$1
    shift
    fusion "$@" > "$out" 2> "$err" < /dev/null
    code=$?
    wrong=
    [ "$code" = "$want" ] || wrong="exit $code, want $want"
}
holds() { [ -z "$1" ] || grep -qF -e "$1" "$out" "$err" || wrong="$wrong; nowhere: $1"; }
lines() { [ "$(wc -l < "$2")" -eq "$1" ] || wrong="$wrong; ${2##*/} has $(wc -l < "$2") lines, want $1"; }
verdict() {
    if [ -z "$wrong" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED fusion $*: $wrong"
        head -n 5 "$out" "$err"
    fi
}

# misuse FRAGMENT ARGS: two lines on standard error, nothing on standard output.
misuse() {
    fragment=$1
    shift
    attempt 2 "$@"
    holds "$fragment"
    lines 2 "$err"
    lines 0 "$out"
    head -n 1 "$err" | grep -q '^fusion: ' || wrong="$wrong; first line"
    tail -n 1 "$err" | grep -q '^try: fusion help' || wrong="$wrong; last line"
    verdict "$@"
}
# fails FRAGMENT ARGS: one line on standard error.
fails() {
    fragment=$1
    shift
    attempt 1 "$@"
    holds "$fragment"
    lines 1 "$err"
    head -n 1 "$err" | grep -q '^fusion: ' || wrong="$wrong; first line"
    verdict "$@"
}
# good FRAGMENT ARGS, no FRAGMENT ARGS: exit 0, exit 3.
good() { fragment=$1; shift; attempt 0 "$@"; holds "$fragment"; verdict "$@"; }
no()   { fragment=$1; shift; attempt 3 "$@"; holds "$fragment"; verdict "$@"; }
# check WHAT COMMAND...: any command of the shell succeeds.
check() {
    what=$1
    shift
    wrong=
    "$@" > "$out" 2> "$err" || wrong="not so"
    verdict "($what)"
}

closing() {
    echo "$passed passed, $failed failed"
    [ "$failed" = 0 ]
}
