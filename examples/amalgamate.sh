#!/bin/sh
# amalgamate.sh - a model as one C file and one header, to drop into another program.
#     sh examples/amalgamate.sh DIR      fusion_clip.c/.h, fusion_sd.c/.h, fusion_audio.c/.h, into DIR
#     cc -O3 -c DIR/fusion_clip.c        nothing else is needed; link with -lm, and -fopenmp if compiled so
# The headers are the manuals, one after the other; the sources follow in the order of the house.  Names that
# two files keep for themselves get their file's name before them, by a macro that ends with the file; one that
# takes arguments where the file also has a member of that name.
set -e
cd "$(dirname "$0")/.."
into=${1:-build/amalgamation}
mkdir -p "$into"

core="numbers tensor json sha256 io safetensors folder tok"
seen="picture png jpeg clip original"
drawn="lora prompt taesd ldm schedule sampler"

# one NAME TITLE SOURCES... - headers that a caller includes are those of the sources
one() {
    name=$1 title=$2
    shift 2
    headers= sources=
    for part; do
        sources="$sources $part.c"
        [ ! -f "$part.h" ] || headers="$headers $part.h"
    done
    awk -v name="$name" -v title="$title" -v headers="$headers" -v header="$into/$name.h" '
    # The file, with ours that it includes in their places: those with a guard once, others each time.
    function expand(file, out,    line, inner) {
        if (file in done) return
        if (file != "kernel.h" && file != "lanes.h") done[file] = 1
        print "\n/* ======== " file " ======== */\n" > out
        while ((getline line < file) > 0) {
            if (line ~ /^#include "/) {
                split(line, inner, "\"")
                expand(inner[2], out)
            } else print line > out
        }
        close(file)
    }
    # Names that the file keeps for itself: static ones, types, constants of enums.
    function own(file, word) {
        if (word != "" && !((file, word) in keeps)) {
            keeps[file, word] = 1
            names[file] = names[file] " " word
            keepers[word]++
        }
    }
    function constants(file, text,    part, count, i) {
        gsub(/\/\*[^*]*\*\//, "", text)
        sub(/^[^{]*{/, "", text)
        sub(/}.*/, "", text)
        count = split(text, part, ",")
        for (i = 1; i <= count; i++) {
            sub(/=.*/, "", part[i])
            gsub(/[ \t]/, "", part[i])
            own(file, part[i])
        }
    }
    function scan(file,    line, text) {
        while ((getline line < file) > 0) {
            body[file] = body[file] line "\n"
            gsub(/ *\/\*[^*]*(\*\/|$)/, "", line)
            sub(/^PRINTF\([0-9], [0-9]\) /, "", line)
            if (line ~ /^#define /) {
                split(line, text, /[ (]/)
                macros[file] = macros[file] " " text[2]
            } else if (line ~ /^(typedef )?enum/) {
                text[0] = line
                while (text[0] !~ /}/ && (getline line < file) > 0) text[0] = text[0] line
                constants(file, text[0])
                line = text[0]
            } else if (line ~ /^static /) {
                text[0] = line
                sub(/^static (struct|const struct) { .*} /, "", text[0])
                sub(/ = .*/, "", text[0])
                sub(/[[(;].*/, "", text[0])
                sub(/.*[ *]/, "", text[0])
                if (line !~ /{$/ || line ~ /[(=]/) own(file, text[0])
            }
            if (line ~ /^typedef .*;$/ || line ~ /^} [A-Za-z_]+;/) {
                sub(/\)?\(.*;$/, ";", line)
                sub(/(\[[^]]*\])?;$/, "", line)
                sub(/.*[ *]/, "", line)
                own(file, line)
            } else if (line ~ /^} [a-z_]+\[\] = {/) {
                sub(/^} /, "", line)
                sub(/\[.*/, "", line)
                own(file, line)
            } else if (line ~ /^struct [A-Z][A-Za-z]* {/) {
                split(line, text, " ")
                own(file, text[2])
            }
        }
        close(file)
    }
    # What a header promises is nobody else'"'"'s.
    function promised(file,    line, word) {
        while ((getline line < file) > 0) {
            if (line !~ /^[A-Za-z].*\(/ || line ~ /^(typedef|static|#)/) continue
            sub(/\(.*/, "", line)
            sub(/.*[ *]/, "", line)
            keepers[line]++
        }
        close(file)
    }
    BEGIN {
        print "/* " name ".h - " title ", for C: made by fusion, examples/amalgamate.sh.  MIT or as LICENSE says. */" > header
        count = split(headers, list, " ")
        for (i = 1; i <= count; i++) {
            promised(list[i])
            expand(list[i], header)
        }
        print "/* " name ".c - " title ", whole.  cc -O3 -c " name ".c; link with -lm. */"
        print "#include \"" name ".h\""
        for (i = 1; i < ARGC; i++) scan(ARGV[i])
        for (i = 1; i < ARGC; i++) {
            file = ARGV[i]
            prefix = file
            sub(/\.c$/, "_", prefix)
            count = split(names[file], list, " ")
            for (j = 1; j <= count; j++)
                if (keepers[list[j]] > 1) {
                    as = prefix list[j]
                    if (body[file] ~ ("([.]|->)" list[j] "[^A-Za-z0-9_(]"))
                        print "#define " list[j] "(...) " as "(__VA_ARGS__)"
                    else print "#define " list[j] " " as
                }
            expand(file, "/dev/stdout")
            for (j = 1; j <= count; j++) if (keepers[list[j]] > 1) print "#undef " list[j]
            count = split(macros[file], list, " ")
            for (j = 1; j <= count; j++) print "#undef " list[j]
        }
        exit
    }' $sources > "$into/$name.c"
}

one fusion_clip "CLIP" $core $seen
one fusion_sd "Stable Diffusion" $core $seen $drawn sd
one fusion_audio "AudioLDM and CLAP" $core $seen wav clap hifigan $drawn audioldm
