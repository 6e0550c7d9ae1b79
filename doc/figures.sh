#!/bin/sh
# figures.sh - every picture of the manual, made by the program itself with the shipped weights.
#     sh doc/figures.sh [DIR]            into DIR, else doc/figures; FUSION is the program
# The same weights give the same bytes; other weights, other pictures.  400 KB in all at most.
set -e
here=$(cd "$(dirname "$0")" && pwd)
fusion=$(realpath "${FUSION:-$here/../fusion}")
into=${1:-$here/figures}
mkdir -p "$into"
into=$(cd "$into" && pwd)
unset FUSION_MODEL
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
draw() { "$fusion" image -q "$@" > /dev/null; }

# A picture, what the latents promise after each of five steps, and where its words looked.
draw -p "a cabin in the woods under the snow" --seed 4 --steps 5 --film "$into/film.png" -o cabin.png
draw -p "a red boat on the sea at sunset" --seed 3 --steps 20 --heatmap heat -o "$into/boat.png"
for word in red boat sea sunset; do cp heat/*-$word.png "$into/look-$word.png"; done

# One noise, four weights of guidance.
for guidance in 1 3 7 15; do
    draw -p "a lighthouse by the sea" --seed 2 --steps 20 --cfg-scale $guidance -o "$into/guidance-$guidance.png"
done

# One place in two moods, two seeds each.
draw -p "un lac joyeux" --seed 6 --steps 20 -b 2 --contact-sheet "$into/joyeux.png" -o lake-%d.png
draw -p "un lac sombre" --seed 6 --steps 20 -b 2 --contact-sheet "$into/sombre.png" -o lake-%d.png

# Two sounds as their mel spectrograms.
for sound in "a dog barking" "rain falling"; do
    "$fusion" audio -q -p "$sound" --seed 7 --steps 20 --seconds 2 -o sound.wav --spectrogram "$into/${sound%% *}.png" > /dev/null
done
mv "$into/a.png" "$into/dog.png"

# A map of embeddings.  Across: how much nearer to "sun" than to "snow"; up: to "day" than to
# "night".  Twelve scenes, each as an English text, a French one, and a picture drawn from the text.
scene() {
    draw -p "$2" --seed 5 --steps 20 -o "$1.png"
    "$fusion" embed -q --normalize -p "$2" -p "$3" "$1.png" | sed "s/^/$1	/" >> map.txt
}
scene snow-day   "a cabin in the snow by day"            "une cabane sous la neige le jour"
scene snow-day   "a church in the snow in daylight"      "une église sous la neige en plein jour"
scene snow-day   "a train in the snow during the day"    "un train sous la neige pendant la journée"
scene snow-night "a cabin in the snow at night"          "une cabane sous la neige la nuit"
scene snow-night "a church in the snow by night"         "une église sous la neige de nuit"
scene snow-night "a train in the snow in the moonlight"  "un train sous la neige au clair de lune"
scene sun-day    "a cabin in fine weather by day"        "une cabane par beau temps le jour"
scene sun-day    "a church under a clear sky in daylight" "une église sous un ciel clair en plein jour"
scene sun-day    "a train in fine weather during the day" "un train par beau temps pendant la journée"
scene sun-night  "a cabin under a clear sky at night"    "une cabane sous un ciel clair la nuit"
scene sun-night  "a church in fine weather by night"     "une église par beau temps de nuit"
scene sun-night  "a train under a clear sky in the moonlight" "un train sous un ciel clair au clair de lune"
"$fusion" embed -q --normalize -p "in fine weather" -p "in the snow" -p "by day" -p "at night" |
    sed 's/^/axis	/' > axes.txt
awk -F '\t' -v OFS='\t' '
    $1 == "axis" { split($4, v, " "); for (i in v) axis[n, i] = v[i]; n++; next }
    { m = split($4, v, " "); x = y = 0
      for (i = 1; i <= m; i++) { x += v[i] * (axis[0, i] - axis[1, i]); y += v[i] * (axis[2, i] - axis[3, i]) }
      print $1, $2, x, y }' axes.txt map.txt > points.txt
awk -F '\t' '
    { kind[NR] = NR % 3 == 1 ? "en" : NR % 3 == 2 ? "fr" : "picture"
      name[NR] = $1; x[NR] = $3; y[NR] = $4
      if (NR == 1 || $3 < left) left = $3; if (NR == 1 || $3 > right) right = $3
      if (NR == 1 || $4 < low) low = $4; if (NR == 1 || $4 > high) high = $4 }
    function mark(kind, fill, x, y) {
        if (kind == "picture") printf "<rect x=\"%.1f\" y=\"%.1f\" width=\"9\" height=\"9\" fill=\"%s\"/>\n", x - 4.5, y - 4.5, fill
        else printf "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"5\" fill=\"%s\" stroke=\"%s\" stroke-width=\"2\"/>\n", x, y, kind == "fr" ? "#fff" : fill, fill
    }
    function say(x, y, anchor, text) { printf "<text x=\"%d\" y=\"%d\" text-anchor=\"%s\">%s</text>\n", x, y, anchor, text }
    END {
        fill["snow-day"] = "#56b4e9"; fill["snow-night"] = "#0b3c7d"; fill["sun-day"] = "#e69f00"; fill["sun-night"] = "#8b3a62"
        print "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 520 440\" font-family=\"sans-serif\" font-size=\"13\">"
        print "<rect width=\"520\" height=\"440\" fill=\"#fff\"/>"
        print "<path d=\"M20 190H500M260 15V365\" stroke=\"#bbb\"/>"
        say(24, 206, "start", "snow / neige"); say(496, 206, "end", "sun / soleil")
        say(266, 26, "start", "day / jour"); say(266, 362, "start", "night / nuit")
        for (i = 1; i <= NR; i++) mark(kind[i], fill[name[i]], 
            45 + 430 * (x[i] - left) / (right - left), 335 - 290 * (y[i] - low) / (high - low))
        split("snow-day snow-night sun-day sun-night", asked, " ")
        split("snow, day · neige, jour|snow, night · neige, nuit|sun, day · soleil, jour|sun, night · soleil, nuit", words, "|")
        for (i = 1; i <= 4; i++) { mark("en", fill[asked[i]], 36 + 250 * (i > 2), 385 + 20 * (i % 2 == 0)); say(48 + 250 * (i > 2), 389 + 20 * (i % 2 == 0), "start", words[i]) }
        mark("en", "#555", 36, 426); say(48, 430, "start", "English"); mark("fr", "#555", 136, 426); say(148, 430, "start", "français")
        mark("picture", "#555", 236, 426); say(248, 430, "start", "picture / image"); print "</svg>"
    }' points.txt > "$into/map.svg"
