# rules.sh - what the sources may not hold, line by line.  Prints `N passed, N failed`.
passed=0
failed=0

# rule NAME COMMAND... - the command prints what breaks the rule
rule() {
    name=$1
    shift
    found=$("$@")
    if [ -z "$found" ]; then passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED $name"
        echo "$found"
    fi
}

wide() {
    awk 'length($0) > 100 { print FILENAME ":" FNR ": " length($0) " columns" }' \
        *.c *.h *.cl tests/*.c tests/*.h examples/*.c
}
banned() {
    grep -nE '\<(atoi|atof|sprintf|strcpy|strcat|scanf|alloca|system|gets) *\(|-ffast-math|-Ofast' *.c *.h Makefile
}
reductions() { grep -nE 'pragma omp.*reduction' *.c *.h; }
knowing() {
    grep -nE '\bargv\b|\bprintf\(|immintrin|arm_neon|#pragma omp|clEnqueue' clip.c clap.c \
        ldm.c sd.c audioldm.c hifigan.c sampler.c schedule.c tok.c lora.c fusion.c phrases.c story.c avi.c page.c \
        index.c folder.c original.c prompt.c taesd.c styles.c
}
variable_arrays() {
    for file in *.c; do ${CC:-gcc} -std=c11 -fsyntax-only -Wno-unknown-pragmas -Wvla "$file" 2>&1 | grep 'Wvla'; done
}
# The library part says what went wrong by Error; only commands print, only main ends.
leaving() {
    grep -nE '\b(exit|abort|_exit|fputs|puts|perror) *\(' $(ls *.c | grep -vE \
        '^(main|make|views|hear|join|tell|find|record|spectrum|read|look|bench|selftest|io|opt|json)\.c$') \
        | grep -vE 'fputs\([^;]*, (f|out|text|s->text|o)\)'
}

rule 'lines of at most 100 columns' wide
rule 'no banned calls and flags' banned
rule 'no sum across threads in an order of its own' reductions
rule 'models know no machine' knowing
rule 'no arrays of variable length' variable_arrays
rule 'the library neither prints nor ends' leaving
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
