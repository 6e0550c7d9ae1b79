# run.sh TEST... - run test programs, then the checks of the command, and sum their last lines.
# RUN is put before each program: an emulator for cross builds.
export OMP_WAIT_POLICY=passive              # seven threads on a busy machine wait, not spin
export FUSION_TESTS="${1%/*}"               # where the test programs are
passed=0
failed=0
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
for test in "$@" tests/cli.sh tests/adapters.sh tests/layouts.sh tests/mask.sh tests/prompts.sh tests/variants.sh tests/join.sh tests/find.sh tests/story.sh tests/library.sh tests/same.sh; do
    case $test in
    *.sh) sh "$test" "$FUSION" > "$log" 2>&1 ;;
    *) $RUN "$test" > "$log" 2>&1 ;;
    esac
    code=$?
    line=$(tail -n 1 "$log")
    good=${line%% passed*}
    bad=${line##*passed, }
    bad=${bad%% failed}
    case $good$bad in
    '' | *[!0-9]*) good=0 bad=1 ;;                         # no closing line: it died
    esac
    [ "$code" = 0 ] || [ "$bad" != 0 ] || bad=1
    [ "$bad" = 0 ] || { echo "== $test (exit $code)"; cat "$log"; }
    passed=$((passed + good))
    failed=$((failed + bad))
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
