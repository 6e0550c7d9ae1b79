/* page.c - a story as one HTML page.  Contract: story.h.
 *
 * The page is a list of scenes: picture, text, sound.  Its script makes a player of them: it knows
 * times only from the data- attributes and texts only as text, so it is the same for every story,
 * and the page's policy (Content-Security-Policy) allows this script alone, by its sha256, and no
 * network.  What a script's author wrote goes through put_text everywhere. */
#include "story.h"

#include <stdlib.h>

/* ---- the style ------------------------------------------------------------------------------- */

/* Contrast: text on ground 14:1, quiet text 7:1, the button 7:1, the focus ring 5:1 at least. */
static const char style[] =
":root { color-scheme: light dark; --ground: #fbfaf7; --card: #ffffff; --ink: #1b1e24;\n"
"  --quiet: #4d5560; --line: #d9d6cf; --strong: #174a7c; --on-strong: #ffffff; --ring: #b3460a; }\n"
"@media (prefers-color-scheme: dark) { :root { --ground: #14161a; --card: #1d2026;\n"
"  --ink: #eceae4; --quiet: #b3b8c0; --line: #3a3f48; --strong: #8fc1f3; --on-strong: #10151b;\n"
"  --ring: #ffb86b; } }\n"
"* { box-sizing: border-box; }\n"
"body { margin: 0; background: var(--ground); color: var(--ink);\n"
"  font: 1.0625rem/1.55 system-ui, sans-serif; }\n"
"main { max-width: 46rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }\n"
"h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .25rem; text-wrap: balance; }\n"
"h2 { font-size: 1.2rem; margin: 2.5rem 0 1rem; }\n"
"p { margin: 0; }\n"
".quiet { color: var(--quiet); font-size: .9375rem; }\n"
"#player { margin-top: 1.5rem; background: var(--card); border: 1px solid var(--line);\n"
"  border-radius: .75rem; overflow: hidden; }\n"
"#stage { position: relative; background: #000; overflow: hidden; width: 100%;\n"
"  max-height: 65vh; }\n"
"#stage img { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; }\n"
"#captions { padding: .9rem 1.1rem; min-height: 6.4rem; border-bottom: 1px solid var(--line); }\n"
"#said { font-size: 1.1875rem; line-height: 1.4; }\n"
"#spoken, .spoken { font-style: italic; }\n"
"#controls { display: flex; flex-wrap: wrap; align-items: center; gap: .6rem;\n"
"  padding: .8rem 1.1rem; }\n"
"button { font: inherit; min-height: 2.75rem; padding: .3rem .9rem; border-radius: .5rem;\n"
"  border: 1px solid var(--quiet); background: transparent; color: var(--ink); cursor: pointer; }\n"
"#play { background: var(--strong); color: var(--on-strong); border-color: var(--strong);\n"
"  font-weight: 600; min-width: 6rem; }\n"
"button[aria-pressed=true] { background: var(--line); }\n"
"button[aria-pressed=true]::before { content: '\\2713' / ''; margin-inline-end: .4rem; }\n"
"button[aria-disabled=true] { color: var(--quiet); border-style: dashed; cursor: default; }\n"
":focus-visible { outline: 3px solid var(--ring); outline-offset: 2px; }\n"
"#place { flex: 1 1 10rem; min-height: 2.75rem; accent-color: var(--strong); margin: 0; }\n"
"#time { font-variant-numeric: tabular-nums; color: var(--quiet); font-size: .9375rem; }\n"
"#help { padding: 0 1.1rem 1rem; }\n"
"kbd { font: inherit; border: 1px solid var(--quiet); border-radius: .25rem; padding: 0 .35rem; }\n"
"ol { list-style: none; margin: 0; padding: 0; display: grid; gap: 1.5rem; }\n"
"figure { margin: 0; display: grid; grid-template-columns: minmax(0, 16rem) 1fr; gap: 1.1rem;\n"
"  align-items: start; background: var(--card); border: 1px solid var(--line);\n"
"  border-radius: .75rem; padding: 1rem; }\n"
"figure img { width: 100%; height: auto; border-radius: .4rem; display: block; }\n"
"figcaption { display: grid; gap: .4rem; overflow-wrap: anywhere; }\n"
"audio { width: 100%; margin-top: .4rem; }\n"
"#track { margin: .8rem; width: calc(100% - 1.6rem); }\n"
"@media (max-width: 36rem) { figure { grid-template-columns: 1fr; } }\n"
"[hidden] { display: none !important; }\n"
"@media print { #player, audio { display: none; } }\n";

/* ---- the script ------------------------------------------------------------------------------ */

/* The clock is the sound's; the machine's where the sound cannot play. */
static const char script_clock[] =
"'use strict';\n"
"{\n"
"const $ = id => document.getElementById(id);\n"
"const sound = $('track'), play = $('play'), place = $('place');\n"
"const [back, front] = $('stage').children;\n"
"const length = +$('player').dataset.length;\n"
"const scenes = [...document.querySelectorAll('figure')].map(f => {\n"
"  const text = name => { const p = f.querySelector(name); return p ? p.textContent : ''; };\n"
"  return { start: +f.dataset.start, from: +f.dataset.from, to: +f.dataset.to,\n"
"    sayFrom: +f.dataset.sayFrom, sayTo: +f.dataset.sayTo, image: f.querySelector('img'),\n"
"    said: text('.said'), heard: text('.heard'), spoken: text('.spoken') };\n"
"});\n"
"const changes = scenes.flatMap(s => [s.start, s.sayFrom, s.sayTo]).filter(x => x > 0)\n"
"  .sort((a, b) => a - b);\n"
"const still = matchMedia('(prefers-reduced-motion: reduce)');\n"
"let mute = false, running = false, since = 0, at = 0;\n"
"function time() {\n"
"  if (!mute) return sound.currentTime * 1000;\n"
"  return Math.min(length, at + (running ? performance.now() - since : 0));\n"
"}\n"
"function seek(ms) {\n"
"  at = Math.max(0, Math.min(length, ms));\n"
"  since = performance.now();\n"
"  if (!mute) sound.currentTime = at / 1000;\n"
"  show();\n"
"}\n"
"function start() {\n"
"  if (time() >= length) seek(0);\n"
"  running = true;\n"
"  since = performance.now();\n"
"  if (!mute) sound.play().catch(e => { if (e.name == 'NotSupportedError') noSound(); });\n"
"  label();\n"
"  requestAnimationFrame(tick);\n"
"}\n"
"function stop() {\n"
"  at = time();\n"
"  running = false;\n"
"  sound.pause();\n"
"  label();\n"
"}\n"
"function noSound() { at = time(); since = performance.now(); mute = true; }\n";

static const char script_show[] =
"function set(id, text) { const p = $(id); if (p.textContent != text) p.textContent = text; }\n"
"function label() { set('play', running ? play.dataset.pause : play.dataset.play); }\n"
"function clock(ms) {\n"
"  const s = Math.floor(ms / 1000);\n"
"  return Math.floor(s / 60) + ':' + String(s % 60).padStart(2, '0');\n"
"}\n"
"function scene(t) {\n"
"  let i = scenes.length - 1;\n"
"  while (i && scenes[i].start > t + .5) i--;\n"
"  return i;\n"
"}\n"
"let shown = -1;\n"
"function picture(t) {\n"
"  let i = scenes.length - 1;\n"
"  while (i && scenes[i].from > t) i--;\n"
"  const s = scenes[i], fading = i && t < s.to && !still.matches;\n"
"  const under = fading ? scenes[i - 1].image.src : '';\n"
"  const over = scenes[still.matches ? scene(t) : i].image.src;\n"
"  if (front.src != over) front.src = over;\n"
"  if (under && back.src != under) back.src = under;\n"
"  back.hidden = !under;\n"
"  front.style.opacity = fading ? (t - s.from) / (s.to - s.from) : 1;\n"
"}\n"
"function show() {\n"
"  const t = time(), i = scene(t), s = scenes[i];\n"
"  picture(t);\n"
"  if (i != shown) {\n"
"    shown = i;\n"
"    $('stage').setAttribute('aria-label', s.image.alt);\n"
"    set('said', s.said);\n"
"    set('heard', s.heard);\n"
"    $('previous').setAttribute('aria-disabled', i == 0);\n"
"    $('next').setAttribute('aria-disabled', i + 1 == scenes.length);\n"
"  }\n"
"  set('spoken', s.spoken && t + .5 >= s.sayFrom && t < s.sayTo ? s.spoken : '');\n"
"  set('time', clock(t) + ' / ' + clock(length));\n"
"  place.value = t;\n"
"  place.setAttribute('aria-valuetext', place.dataset.scene + ' ' + (i + 1) + ', ' + clock(t));\n"
"}\n"
"let timer;\n"
"function tick() {\n"
"  show();\n"
"  if (time() >= length) stop();\n"
"  clearTimeout(timer);\n"
"  if (!running) return;\n"
"  requestAnimationFrame(tick);\n"
"  const t = time(), next = changes.find(x => x > t + .5);\n"
"  if (next) timer = setTimeout(show, next - t);\n"
"}\n"
"function step(by) {\n"
"  const i = scene(time()) + by;\n"
"  if (i >= 0 && i < scenes.length) seek(scenes[i].start);\n"
"}\n";

static const char script_keys[] =
"play.onclick = () => running ? stop() : start();\n"
"$('previous').onclick = () => step(-1);\n"
"$('next').onclick = () => step(1);\n"
"place.oninput = () => seek(+place.value);\n"
"const toggle = $('toggle');\n"
"toggle.onclick = () => {\n"
"  const on = toggle.getAttribute('aria-pressed') != 'true';\n"
"  toggle.setAttribute('aria-pressed', on);\n"
"  $('captions').hidden = !on;\n"
"};\n"
"sound.ontimeupdate = show;\n"
"sound.onended = stop;\n"
"sound.onerror = noSound;\n"
"document.addEventListener('play', e => {\n"
"  if (e.target != sound && running) stop();\n"
"  for (const other of document.querySelectorAll('audio'))\n"
"    if (other != e.target) other.pause();\n"
"}, true);\n"
"document.addEventListener('keydown', e => {\n"
"  const own = e.target.closest('audio, input'), press = e.target.closest('button');\n"
"  if (e.ctrlKey || e.altKey || e.metaKey) return;\n"
"  if (e.key == 'Escape') { stop(); seek(0); return; }\n"
"  if (own || (press && e.key == ' ')) return;\n"
"  if (e.key == ' ') running ? stop() : start();\n"
"  else if (e.key == 'ArrowLeft') step(-1);\n"
"  else if (e.key == 'ArrowRight') step(1);\n"
"  else return;\n"
"  e.preventDefault();\n"
"});\n"
"sound.removeAttribute('controls');\n"
"sound.hidden = true;\n"
"for (const e of document.querySelectorAll('.scripted')) e.hidden = false;\n"
"label();\n"
"show();\n"
"}\n";

static const char *const script[] = { script_clock, script_show, script_keys };

/* ---- words ----------------------------------------------------------------------------------- */

typedef struct {
    const char *lang, *story, *scene, *counted[2], *scenes, *player, *play, *pause, *previous,
        *next, *captions, *place, *sound, *silence, *whole, *sound_of, *narration, *controls, *help;
} Words;

static const Words words[] = {
    { "en", "A story", "Scene", { "scene", "scenes" }, "The scenes", "The story, played", "Play",
      "Pause", "Previous scene", "Next scene", "Captions", "Place in the story", "Sound", "silence",
      "Sound of the whole story", "Sound of scene", "Narration", "Controls",
      "<kbd>Space</kbd> plays and pauses, <kbd>←</kbd> and <kbd>→</kbd> change the scene, "
      "<kbd>Esc</kbd> returns to the beginning." },
    { "fr", "Une histoire", "Scène", { "scène", "scènes" }, "Les scènes",
      "L’histoire, jouée", "Lecture", "Pause", "Scène précédente", "Scène suivante",
      "Sous-titres", "Position dans l’histoire", "Son", "silence",
      "Son de toute l’histoire", "Son de la scène", "Narration", "Commandes",
      "<kbd>Espace</kbd> lance et arrête, <kbd>←</kbd> et <kbd>→</kbd> changent de scène, "
      "<kbd>Échap</kbd> revient au début." },
};

/* ---- writing --------------------------------------------------------------------------------- */

/* The first failure stops all further writing. */
typedef struct { const Story *s; Output *o; const Words *w; bool ok; Error *e; } Page;

static void put_bytes(Page *p, const void *bytes, size_t n)
{
    p->ok = p->ok && output_write(p->o, bytes, n, p->e);
}

/* Our own words, numbers and tags. */
PRINTF(2, 3) static void put(Page *p, const char *format, ...)
{
    char text[2048];
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    put_bytes(p, text, zmin((size_t)n, sizeof text - 1));
}

/* A text that somebody else wrote, as it may stand between tags and in attributes. */
static void put_text(Page *p, const char *text)
{
    for (; *text; text++)
        switch (*text) {
        case '&': put(p, "&amp;"); break;
        case '<': put(p, "&lt;"); break;
        case '>': put(p, "&gt;"); break;
        case '"': put(p, "&quot;"); break;
        case '\'': put(p, "&#39;"); break;
        default: put_bytes(p, text, 1);
        }
}

static void put_base64(Page *p, const uint8_t *bytes, size_t n)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        const size_t left = zmin(n - i, 3);
        uint32_t group = (uint32_t)bytes[i] << 16;
        if (left > 1) group |= (uint32_t)bytes[i + 1] << 8;
        if (left > 2) group |= bytes[i + 2];
        char out[4];
        for (size_t k = 0; k < 4; k++)
            out[k] = k > left ? '=' : digits[group >> (18 - 6 * k) & 63];
        put_bytes(p, out, sizeof out);
    }
}

static void put_data(Page *p, const char *type, const Output *file)
{
    size_t n;
    const uint8_t *bytes = output_bytes(file, &n);
    put(p, "data:%s;base64,", type);
    put_base64(p, bytes, n);
}

/* An audio element with n samples of the track. */
static void put_sound(Page *p, const char *id, const char *label, int number, uint64_t from,
                      uint64_t n)
{
    const Sound *track = &p->s->track;
    const Sound part = { .rate = track->rate, .channels = 1, .frames = (size_t)n,
                         .at = track->at + from };
    Output *file = p->ok ? output_memory("story.html", p->e) : NULL;
    p->ok = file && wav_write(file, &part, false, NULL, p->e);
    put(p, "<audio%s controls preload=\"metadata\" aria-label=\"%s", id, label);
    if (number) put(p, " %d", number);
    put(p, "\" src=\"");
    if (p->ok) put_data(p, "audio/wav", file);
    put(p, "\"></audio>\n");
    output_discard(file);
}

/* ---- the page -------------------------------------------------------------------------------- */

static void put_policy(Page *p)
{
    char hex[65];
    uint8_t sum[32];
    Sha256 sha;
    sha256_start(&sha);
    for (size_t i = 0; i < countof(script); i++) sha256_add(&sha, script[i], strlen(script[i]));
    sha256_end(&sha, hex);
    for (int i = 0; i < 32; i++) {
        const char digits[3] = { hex[2 * i], hex[2 * i + 1], 0 };
        sum[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    put(p, "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
           "img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'sha256-");
    put_base64(p, sum, sizeof sum);
    put(p, "'\">\n");
}

static void put_title(Page *p)
{
    put_text(p, p->s->script.title ? p->s->script.title : p->w->story);
}

static void put_head(Page *p)
{
    put(p, "<!DOCTYPE html>\n<html lang=\"%s\">\n<head>\n<meta charset=\"utf-8\">\n", p->w->lang);
    put_policy(p);
    put(p, "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>");
    put_title(p);
    put(p, "</title>\n<style>\n");
    put_bytes(p, style, sizeof style - 1);
    put(p, "</style>\n</head>\n");
}

/* Without a script only its sound is seen. */
static void put_player(Page *p)
{
    const Words *w = p->w;
    const Picture *first = &p->s->parts[0].picture;
    const unsigned long long length = timeline_cue(&p->s->time, p->s->script.count);
    put(p, "<section id=\"player\" aria-label=\"%s\" data-length=\"%llu\">\n", w->player, length);
    put(p, "<div id=\"stage\" class=\"scripted\" role=\"img\" hidden "
           "style=\"aspect-ratio: %d / %d\"><img alt=\"\" hidden><img alt=\"\"></div>\n",
        first->w, first->h);
    put(p, "<div id=\"captions\" class=\"scripted\" role=\"status\" aria-live=\"polite\" hidden>\n"
           "<p id=\"said\"></p>\n<p id=\"heard\" class=\"quiet\"></p>\n<p id=\"spoken\"></p>\n"
           "</div>\n");
    put(p, "<div id=\"controls\" class=\"scripted\" role=\"group\" aria-label=\"%s\" hidden>\n"
           "<button type=\"button\" id=\"play\" data-play=\"%s\" data-pause=\"%s\">%s</button>\n",
        w->controls, w->play, w->pause, w->play);
    put(p, "<button type=\"button\" id=\"previous\">%s</button>\n"
           "<button type=\"button\" id=\"next\">%s</button>\n", w->previous, w->next);
    put(p, "<button type=\"button\" id=\"toggle\" aria-pressed=\"true\">%s</button>\n"
           "<input type=\"range\" id=\"place\" min=\"0\" max=\"%llu\" step=\"any\" value=\"0\" "
           "aria-label=\"%s\" data-scene=\"%s\">\n<span id=\"time\"></span>\n</div>\n",
        w->captions, length, w->place, w->scene);
    put(p, "<p id=\"help\" class=\"scripted quiet\" hidden>%s</p>\n", w->help);
    put_sound(p, " id=\"track\"", w->whole, 0, 0, p->s->track.frames);
    put(p, "</section>\n");
}

/* data-: when its captions begin, the fade before it, its narration, in milliseconds. */
static void put_times(Page *p, int i)
{
    const Span *span = &p->s->time.spans[i];
    const unsigned long long from = span->begin * (1000 / AVI_FPS),
                             to = (span->begin + span->fade) * (1000 / AVI_FPS);
    uint64_t says[2];
    put(p, "<li><figure id=\"scene-%d\" data-start=\"%llu\" data-from=\"%llu\" data-to=\"%llu\"",
        i + 1, (unsigned long long)timeline_cue(&p->s->time, i), from, to);
    if (story_says(p->s, i, &says[0], &says[1]))
        put(p, " data-say-from=\"%llu\" data-say-to=\"%llu\"", (unsigned long long)says[0],
            (unsigned long long)says[1]);
    put(p, ">\n");
}

static void put_words(Page *p, int i)
{
    const Scene *scene = &p->s->script.scenes[i];
    const Part *part = &p->s->parts[i];
    const char *sound = scene_sound(scene);
    const unsigned long long from = (timeline_cue(&p->s->time, i) + 500) / 1000,
                             to = (timeline_cue(&p->s->time, i + 1) + 500) / 1000;
    put(p, "<figcaption>\n<p class=\"quiet\">%s %d · %llu:%02llu–%llu:%02llu</p>\n", p->w->scene,
        i + 1, from / 60, from % 60, to / 60, to % 60);
    put(p, "<p class=\"said\">");
    put_text(p, scene->text);
    put(p, "</p>\n<p class=\"heard quiet\">");
    if (!part->heard) put(p, "%s: ", p->w->sound);
    put_text(p, part->heard ? part->heard : sound ? sound : p->w->silence);
    put(p, "</p>\n");
    if (scene->says) {
        put(p, "<p class=\"spoken\">%s: ", p->w->narration);
        put_text(p, scene->says);
        put(p, "</p>\n");
    }
}

static void put_scene(Page *p, int i)
{
    const Part *part = &p->s->parts[i];
    const uint64_t rate = (uint64_t)p->s->rate, from = timeline_cue(&p->s->time, i) * rate / 1000,
                   to = timeline_cue(&p->s->time, i + 1) * rate / 1000;
    put_times(p, i);
    put(p, "<img width=\"%d\" height=\"%d\" alt=\"", part->picture.w, part->picture.h);
    put_text(p, part->seen ? part->seen : p->s->script.scenes[i].text);
    put(p, "\" src=\"");
    if (p->ok) put_data(p, "image/png", part->png);
    put(p, "\">\n");
    put_words(p, i);
    put_sound(p, "", p->w->sound_of, i + 1, from, to - from);
    put(p, "</figcaption>\n</figure></li>\n");
}

bool story_page(const Story *s, Output *o, Error *e)
{
    const bool french = s->script.lang && !strcmp(s->script.lang, "fr");
    Page p = { .s = s, .o = o, .w = &words[french], .ok = true, .e = e };
    const unsigned long long seconds = (timeline_cue(&s->time, s->script.count) + 500) / 1000;
    put_head(&p);
    put(&p, "<body>\n<main>\n<h1>");
    put_title(&p);
    put(&p, "</h1>\n<p class=\"quiet\">%d %s · %llu:%02llu</p>\n", s->script.count,
        p.w->counted[s->script.count > 1], seconds / 60, seconds % 60);
    put_player(&p);
    put(&p, "<section aria-labelledby=\"scenes\">\n<h2 id=\"scenes\">%s</h2>\n<ol>\n",
        p.w->scenes);
    for (int i = 0; i < s->script.count; i++) put_scene(&p, i);
    put(&p, "</ol>\n</section>\n</main>\n<script>");
    for (size_t i = 0; i < countof(script); i++) put_bytes(&p, script[i], strlen(script[i]));
    put(&p, "</script>\n</body>\n</html>\n");
    return p.ok;
}
