# manual.sh [PROGRAM] - what README.md and doc/ say, held against the program and its text: every command runs,
# every named function, test and file is there, quoted lines stand so in their file, links lead somewhere, --trace
# writes the names told, both languages have the same commands.  Runs in the folder of the repository.
# Blocks after `<!-- needs published weights -->` are not run.  Needs no network.
root=$(pwd)
program=$(realpath "${1:-${FUSION:-./fusion}}")
export OMP_WAIT_POLICY=passive
unset FUSION_MODEL
passed=0
failed=0
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
# PAGES="doc/en/clip.md" sh tests/manual.sh: these alone.
pages=${PAGES:-"README.md doc/README.md doc/glossary.md doc/parity.md doc/en/*.md doc/fr/*.md"}

good() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); echo "FAILED $*"; }
check() { what=$1; shift; if "$@"; then good; else bad "$what"; fi; }

# Code of every page, away: what is left are words.
words() { awk '/^```/ { code = !code; next } !code' "$1"; }

# ---- commands: each page in a scratch folder, its blocks from top to bottom --------------------------------

run_page() {
    mkdir -p "$dir/run" && cd "$dir/run" || return
    ln -s "$program" fusion
    ln -s "$root"/weights "$root"/examples .
    awk '
        /^```sh/ { if (!marked) { n++; file = sprintf("../block-%03d.sh", n); printf "" > file; code = 1 } else skip = 1; next }
        /^```/ { code = skip = 0; marked = 0; next }
        code { print >> file; next }
        NF && !skip { marked = /<!-- needs published weights -->/ }' "$root/$1"
    for block in ../block-*.sh; do
        [ -f "$block" ] || continue
        sh -e "$block" > ../out 2>&1 < /dev/null && good && continue
        bad "$1: exit $?:"
        cat "$block"
        tail -n 3 ../out
    done
    cd "$root" || exit
    rm -rf "$dir/run" "$dir"/block-*.sh
}

# Indented lines of README.md that begin with ./fusion, without what is said three spaces behind them, run if
# their model is here; the usage lines that begin with fusion name verbs and options that exist.
run_readme() {
    mkdir -p "$dir/run" && cd "$dir/run" || return
    ln -s "$program" fusion
    ln -s "$root"/weights "$root"/examples .
    sed -n 's/^    \(\.\/fusion .*\)/\1/p' "$root/README.md" | sed 's/   .*//' > ../lines
    while read -r line; do
        model=$(printf '%s\n' "$line" | sed -n 's/.* -m \([^ ]*\).*/\1/p')
        [ -z "$model" ] || [ -e "$model" ] || continue
        check "README.md: $line" sh -c "$line > ../out 2>&1 < /dev/null"
    done < ../lines
    sed -n 's/^    fusion \([a-z].*\)/\1/p' "$root/README.md" | sed 's/   .*//' > ../lines
    while read -r verb rest; do
        [ "$verb" = help ] || ./fusion help "$verb" > ../help 2> /dev/null || { bad "README.md: fusion $verb"; continue; }
        good
        for option in $(printf '%s\n' "$rest" | grep -oE '(^| )--?[a-z][a-z0-9-]*'); do
            check "README.md: fusion $verb $option" grep -qE "^ *(-[a-zA-Z], )?$option[ ,]" ../help
        done
    done < ../lines
    cd "$root" || exit
    rm -rf "$dir/run"
}

# ---- names ------------------------------------------------------------------------------------------------

# `name` (`file.c`), also `name` and `name` (`file.c`): a definition there, or a test.
names() {
    words "$1" | tr '\n' ' ' | grep -oE '(`[A-Za-z_0-9]+`( and | et |, ))?`[A-Za-z_0-9]+` \(`[a-z_0-9/]+\.(c|h|py)`\)' |
        tr -d '`(),' | while read -r line; do
            file=${line##* }
            for name in ${line% *}; do
                case $name in and | et) continue ;; esac
                if [ -f "$file" ] && grep -qE "^ *TEST\($name\)|^[A-Za-z].*[^A-Za-z_0-9]$name\(|^(def|class) $name\>" "$file"
                then echo good; else echo "$1: $name is not in $file"; fi
            done
        done
}
# `tests/x.c` and the like: files.
files() {
    words "$1" | grep -oE '`([a-z_]+/)*[a-z_0-9-]+\.(c|h|py|sh)`' | tr -d '`' | sort -u | while read -r file; do
        if [ -f "$file" ]; then echo good; else echo "$1: no file $file"; fi
    done
}
links() {
    words "$1" | grep -oE '\]\([^)]+\)' | sed 's/^](//; s/)$//' | grep -v '^https*:' | sed 's/#.*//' | sort -u |
        while read -r link; do
            if [ -z "$link" ] || [ -e "$(dirname "$1")/$link" ]; then echo good; else echo "$1: a link to $link"; fi
        done
}
# ```c blocks: the same lines, one after the other, in the file named last before them.
quotes() {
    awk -v page="$1" '
        function whole(file,    text, line) {
            while ((getline line < file) > 0) text = text "\n" line
            close(file)
            return text "\n"
        }
        /^```c$/ { code = 1; block = ""; next }
        /^```/ && code { print index(whole(file), "\n" block) ? "good" : page ": not in " file ": " substr(block, 1, index(block, "\n") - 1); code = 0 }
        code { block = block $0 "\n"; next }
        { rest = $0; while (match(rest, /`[a-z_0-9\/]+\.[ch]`/)) { file = substr(rest, RSTART + 1, RLENGTH - 2); rest = substr(rest, RSTART + RLENGTH) } }
    ' "$1"
}

# ---- traces -----------------------------------------------------------------------------------------------

make_traces() {
    "$program" image -q -p "a cat" --seed 1 --steps 1 -o "$dir/cat.png" --trace "$dir/1.safetensors"
    "$program" image -q -p "a cat" -i "$dir/cat.png" --seed 1 --steps 2 -o "$dir/again.png" --trace "$dir/2.safetensors"
    "$program" audio -q -p "rain" --seed 1 --steps 1 --seconds 1 -o "$dir/rain.wav" --trace "$dir/3.safetensors"
    "$program" score -q -p "a cat" "$dir/cat.png" --trace "$dir/4.safetensors"
    "$program" score -q -p "rain" "$dir/rain.wav" --trace "$dir/5.safetensors"
    for i in 1 2 3 4 5; do "$program" inspect "$dir/$i.safetensors"; done | cut -f 1 > "$dir/traces"
} > /dev/null 2>&1
# The names in a paragraph from `Trace` on.
traces() {
    words "$1" | awk '/^Trace ?:/ { on = 1 } /^$/ { on = 0 } on' | grep -oE '`[a-z0-9_.]+`' | tr -d '`' | while read -r name; do
        case $name in *.c | *.h) continue ;; esac
        if grep -qxF "$name" "$dir/traces"; then echo good; else echo "$1: no trace $name"; fi
    done
}

# ---- both languages: as many headings, blocks, pictures and equations, the same code -----------------------

outline() {
    awk '/^```/ { print; code = !code; if (code) kind = $0; next } code && kind == "```c" { print; next }
         code { next } /^#+ / { print $1 } /^\$\$/ || /^!\[/ || /^\|/ { print substr($0, 1, 2) }' "$1"
}
same_outline() { outline "$1" > "$dir/en"; outline "$2" > "$dir/fr"; cmp -s "$dir/en" "$dir/fr"; }

count() { while read -r line; do if [ "$line" = good ]; then good; else bad "$line"; fi; done < "$dir/found"; }

make_traces
for page in $pages; do
    run_page "$page"
    for kind in names files links quotes traces; do
        $kind "$page" > "$dir/found"
        count
    done
done
run_readme
for page in doc/en/*.md; do check "$page and doc/fr/${page##*/} differ in outline" same_outline "$page" "doc/fr/${page##*/}"; done
check "doc/figures holds more than 400 KB" [ "$(cat doc/figures/* | wc -c)" -le 409600 ]
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
