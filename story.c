/* story.c - scenes in time: the script, the timeline, sound, film and captions.  Contract: story.h;
 * the page is page.c. */
#include "story.h"
#include "opt.h"
#include "tensor.h"

#include <math.h>
#include <stdlib.h>

#define SECONDS_UNLESS_GIVEN 4.0
#define DUCK_DB (-12.0)
#define RAMP_SECONDS 0.3
#define END_SECONDS 0.02

static const double pi = 0x1.921fb54442d18p1;

/* ---- the script ------------------------------------------------------------------------------ */

/* A script being read: where, and the scene of this paragraph. */
typedef struct { Script *s; const char *where; int line; Scene *scene; Error *e; } Reader;

PRINTF(2, 3) static bool bad(const Reader *r, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return fail(r->e, "%s:%d: %s", r->where, r->line, text);
}

static bool set_text(const Reader *r, char **to, const char *key, const char *value)
{
    if (*to) return bad(r, "%s: given twice%s", key, r->scene ? " in this scene" : "");
    *to = strdup(value);
    return *to || bad(r, "out of memory: needed room for a text");
}

static bool set_seconds(const Reader *r, const char *value)
{
    double *to = &r->scene->seconds;
    if (*to > 0) return bad(r, "seconds: given twice in this scene");
    return (opt_read_number(value, to) && *to >= 1.0 / AVI_FPS && *to <= SCENE_SECONDS_MOST)
           || bad(r, "seconds: found '%.80s', want a number in %g..%d", value, 1.0 / AVI_FPS,
                  SCENE_SECONDS_MOST);
}

static bool set_seed(const Reader *r, const char *value)
{
    Scene *scene = r->scene;
    if (scene->seeded) return bad(r, "seed: given twice in this scene");
    scene->seeded = true;
    return opt_read_whole(value, &scene->seed)
           || bad(r, "seed: found '%.80s', want a whole number in 0..18446744073709551615", value);
}

/* The first key of a paragraph begins a scene. */
static bool begin_scene(Reader *r)
{
    Script *s = r->s;
    if (r->scene) return true;
    if (s->count == SCENES_MOST)
        return bad(r, "scenes: found one more, want at most %d", SCENES_MOST);
    Scene *more = realloc(s->scenes, ((size_t)s->count + 1) * sizeof *more);
    if (!more) return bad(r, "out of memory: needed room for a scene");
    s->scenes = more;
    r->scene = &more[s->count++];
    *r->scene = (Scene){ .line = r->line };
    return true;
}

static bool end_scene(Reader *r)
{
    const Scene *scene = r->scene;
    r->scene = NULL;
    if (!scene || (scene->text && (scene->narration || !scene->says))) return true;
    r->line = scene->line;
    if (!scene->text)
        return bad(r, "scene: missing in the paragraph that begins here, want scene: TEXT");
    return bad(r, "says: found in a scene without narration, want narration: FILE.wav too");
}

/* Of the whole story: before the first scene. */
static bool set_head(Reader *r, const char *key, const char *value)
{
    const bool title = !strcmp(key, "title");
    if (r->s->count) return bad(r, "%s: found behind a scene, want it before the first", key);
    if (title) return set_text(r, &r->s->title, key, value);
    if (strcmp(value, "en") && strcmp(value, "fr"))
        return bad(r, "lang: found '%.80s', want one of en, fr", value);
    return set_text(r, &r->s->lang, key, value);
}

static bool set_key(Reader *r, const char *key, const char *value)
{
    static const struct { const char *key; size_t field; } texts[] = {
        { "scene", offsetof(Scene, text) }, { "sound", offsetof(Scene, sound) },
        { "narration", offsetof(Scene, narration) }, { "says", offsetof(Scene, says) } };
    const bool head = !strcmp(key, "title") || !strcmp(key, "lang");
    size_t i = 0;
    while (i < countof(texts) && strcmp(texts[i].key, key)) i++;
    if (i == countof(texts) && !head && strcmp(key, "seconds") && strcmp(key, "seed"))
        return bad(r, "found '%.80s:', want one of scene, sound, seconds, seed, narration, says, "
                   "or title, lang before the first scene", key);
    if (!*value) return bad(r, "%s: found nothing behind it, want a value", key);
    if (head) return set_head(r, key, value);
    if (!begin_scene(r)) return false;
    if (i < countof(texts))
        return set_text(r, (char **)((char *)r->scene + texts[i].field), key, value);
    return key[2] == 'c' ? set_seconds(r, value) : set_seed(r, value);
}

static bool blank(char c) { return c == ' ' || c == '\t'; }

/* One line, of n bytes and a NUL; a CR before the line's end counts as part of the end. */
static bool read_line(Reader *r, char *line, size_t n)
{
    if (n && line[n - 1] == '\r') n--;
    while (n && blank(line[n - 1])) n--;
    while (n && blank(*line)) line++, n--;
    line[n] = 0;
    if (n > LINE_MOST) return bad(r, "line: found %zu bytes, want at most %d", n, LINE_MOST);
    if (!utf8_valid(line, n)) return bad(r, "line: found bytes that are no UTF-8, want a text");
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)line[i];
        if (c == '\t') line[i] = ' ';
        else if (c < 0x20 || c == 0x7f)
            return bad(r, "line: found control byte 0x%02x, want a text", c);
    }
    if (!n) return end_scene(r);
    if (*line == '#') return true;
    char *colon = strchr(line, ':');
    if (!colon) return bad(r, "found '%.80s', want key: value", line);
    char *end = colon, *value = colon + 1 + strspn(colon + 1, " ");
    while (end > line && blank(end[-1])) end--;
    *end = 0;
    return set_key(r, line, value);
}

bool script_parse(Script *s, const char *bytes, size_t n, const char *where, Error *e)
{
    Reader r = { .s = s, .where = where, .e = e };
    const bool marked = n >= 3 && !memcmp(bytes, "\xef\xbb\xbf", 3);   /* a byte order mark */
    char *copy = malloc(n + 1);
    *s = (Script){ .path = strdup(where) };
    bool ok = copy && s->path;
    if (!ok) fail(e, "%s: out of memory: needed %zu bytes", where, n);
    if (ok && n) memcpy(copy, bytes, n);
    for (char *at = copy + (ok && marked ? 3 : 0), *end; ok && at < copy + n; at = end + 1) {
        end = memchr(at, '\n', (size_t)(copy + n - at));
        if (!end) end = copy + n;
        r.line++;
        ok = read_line(&r, at, (size_t)(end - at));
    }
    free(copy);
    ok = ok && end_scene(&r);
    if (ok && !s->count) ok = fail(e, "%s: found no scene, want scene: TEXT", where);
    if (!ok) script_free(s);
    return ok;
}

bool script_read(Script *s, const char *path, Error *e)
{
    File f;
    *s = (Script){ 0 };
    if (!file_map(&f, path, 1 << 20, e)) return false;
    const char *foreign = foreign_format(f.at, f.size);
    const bool ok = foreign ? fail(e, "%s: found %s, want a script of scene: TEXT", path, foreign)
                            : script_parse(s, (const char *)f.at, f.size, path, e);
    file_unmap(&f);
    return ok;
}

void script_free(Script *s)
{
    for (int i = 0; i < s->count; i++) {
        free(s->scenes[i].text);
        free(s->scenes[i].sound);
        free(s->scenes[i].narration);
        free(s->scenes[i].says);
    }
    free(s->scenes);
    free(s->path);
    free(s->title);
    free(s->lang);
    *s = (Script){ 0 };
}

const char *scene_sound(const Scene *s)
{
    return !s->sound ? s->text : strcmp(s->sound, "none") ? s->sound : NULL;
}

/* ---- the timeline ---------------------------------------------------------------------------- */

static uint64_t rounded(double frames) { return (uint64_t)(frames + 0.5); }

uint64_t voice_frames(const Sound *voice)
{
    return ((uint64_t)voice->frames * AVI_FPS + (uint64_t)voice->rate - 1) / (uint64_t)voice->rate;
}

/* The pictures that narration i needs: with a whole fade on each side that has one. */
static uint64_t needed(const Script *s, int i, const uint64_t *voices, uint64_t fade)
{
    return voices[i] + (i > 0 ? fade : 0) + (i + 1 < s->count ? fade : 0);
}

/* Narration i between the fades. */
static bool place_voice(const Timeline *t, const Script *s, int i, const uint64_t *voices,
                        uint64_t fade, Error *e)
{
    Span *span = &t->spans[i];
    const uint64_t after = i + 1 < t->count ? t->spans[i + 1].fade : 0;
    span->voice = span->begin + span->fade;
    if (!voices[i] || span->fade + voices[i] + after <= span->length) return true;
    return fail(e, "%s:%d: seconds: found %g, want at least %g for the narration, or none: it is "
                "then long enough", s->path, s->scenes[i].line, s->scenes[i].seconds,
                (double)needed(s, i, voices, fade) / AVI_FPS);
}

bool timeline_make(Timeline *t, const Script *s, const uint64_t *voices, double crossfade,
                   Error *e)
{
    const uint64_t fade = rounded(crossfade * AVI_FPS);
    *t = (Timeline){ .spans = calloc((size_t)s->count, sizeof *t->spans), .count = s->count };
    if (!t->spans) return fail(e, "%s: out of memory: needed room for the timeline", s->path);
    for (int i = 0; i < s->count; i++) {
        Span *span = &t->spans[i], *before = i ? span - 1 : NULL;
        const double seconds = s->scenes[i].seconds;
        span->length = rounded((seconds > 0 ? seconds : SECONDS_UNLESS_GIVEN) * AVI_FPS);
        if (!(seconds > 0) && voices[i] && needed(s, i, voices, fade) > span->length)
            span->length = needed(s, i, voices, fade);
        if (before) {
            const uint64_t half = zmin(before->length, span->length) / 2;
            span->fade = zmin(fade, half);
            span->begin = before->begin + before->length - span->fade;
        }
        t->frames = span->begin + span->length;
    }
    bool ok = true;
    for (int i = 0; ok && i < s->count; i++) ok = place_voice(t, s, i, voices, fade, e);
    if (!ok) timeline_free(t);
    return ok;
}

void timeline_free(Timeline *t)
{
    free(t->spans);
    *t = (Timeline){ 0 };
}

uint64_t timeline_cue(const Timeline *t, int i)
{
    const uint64_t half = 500 / AVI_FPS;                   /* of a picture, in ms */
    if (i == t->count) return 2 * half * t->frames;
    return half * (2 * t->spans[i].begin + t->spans[i].fade);
}

/* ---- sound ----------------------------------------------------------------------------------- */

/* Add scene i, its ends in equal power with its neighbours. */
static void add_sound(const Story *s, int i, float *track)
{
    const uint64_t each = (uint64_t)s->rate / AVI_FPS;
    const Span *span = &s->time.spans[i];
    const uint64_t n = span->length * each, in = span->fade * each;
    const uint64_t out = i + 1 < s->time.count ? span[1].fade * each : 0;
    const float *from = s->parts[i].sound.at;
    float *to = track + span->begin * each;
    for (uint64_t j = 0; j < n; j++) {
        double gain = 1;
        if (j < in) gain = f_sin(pi / 2 * ((double)j + 0.5) / (double)in);
        if (n - j <= out) gain = f_sin(pi / 2 * ((double)(n - j) - 0.5) / (double)out);
        to[j] = (float)(to[j] + gain * from[j]);
    }
}

/* How far the rest sinks under narration i, 0..1 for each sample, where it sinks further. */
static void add_duck(const Story *s, int i, float *duck)
{
    const int64_t begin = (int64_t)(s->time.spans[i].voice * (uint64_t)s->rate / AVI_FPS);
    const int64_t end = begin + (int64_t)s->parts[i].voice.frames;
    const int64_t ramp = (int64_t)(RAMP_SECONDS * s->rate), all = (int64_t)s->track.frames;
    for (int64_t j = begin > ramp ? begin - ramp : 0; j < end + ramp && j < all; j++) {
        const int64_t away = j < begin ? begin - j : j < end ? 0 : j - end + 1;
        const float depth = (float)(0.5 + 0.5 * f_cos(pi * (double)away / (double)ramp));
        if (depth > duck[j]) duck[j] = depth;
    }
}

static void add_voice(const Story *s, int i, float *track)
{
    const Sound *voice = &s->parts[i].voice;
    float *to = track + s->time.spans[i].voice * (uint64_t)s->rate / AVI_FPS;
    for (size_t j = 0; j < voice->frames; j++) to[j] += voice->at[j];
}

bool story_mix(Story *s, Error *e)
{
    const uint64_t n = s->time.frames * ((uint64_t)s->rate / AVI_FPS);
    float *track = calloc((size_t)n, sizeof *track), *duck = calloc((size_t)n, sizeof *duck);
    if (!track || !duck) {
        free(track);
        free(duck);
        return fail(e, "%s: out of memory: needed room for %llu samples", s->script.path,
                    (unsigned long long)n);
    }
    s->track = (Sound){ .rate = s->rate, .channels = 1, .frames = (size_t)n, .at = track };
    for (int i = 0; i < s->script.count; i++) add_sound(s, i, track);
    sound_fade(&s->track, END_SECONDS, END_SECONDS);
    for (int i = 0; i < s->script.count; i++)
        if (s->parts[i].voice.frames) add_duck(s, i, duck);
    for (uint64_t j = 0; j < n; j++)
        if (duck[j] > 0) track[j] = (float)(track[j] * f_pow(10, DUCK_DB / 20 * duck[j]));
    for (int i = 0; i < s->script.count; i++)
        if (s->parts[i].voice.frames) add_voice(s, i, track);
    const double peak = sound_peak(&s->track);
    if (peak > 1) sound_gain(&s->track, 1 / peak);
    free(duck);
    return true;
}

/* ---- film ------------------------------------------------------------------------------------ */

void story_picture(const Story *s, uint64_t frame, uint8_t *out)
{
    const Span *spans = s->time.spans;
    int i = s->time.count - 1;
    while (i > 0 && spans[i].begin > frame) i--;
    const Picture *now = &s->parts[i].picture;
    const size_t n = (size_t)now->w * (size_t)now->h * 3;
    const uint64_t into = frame - spans[i].begin, fade = spans[i].fade;
    if (into >= fade) {
        memcpy(out, now->rgb, n);
        return;
    }
    const uint8_t *before = s->parts[i - 1].picture.rgb;
    const uint64_t whole = 2 * fade, part = 2 * into + 1;  /* in the middle of the picture's time */
    for (size_t j = 0; j < n; j++)
        out[j] = (uint8_t)((before[j] * (whole - part) + now->rgb[j] * part + fade) / whole);
}

bool story_film(const Story *s, Output *o, Error *e)
{
    const Picture *first = &s->parts[0].picture;
    const size_t each = (size_t)s->rate / AVI_FPS;
    const AviShape shape = { .w = first->w, .h = first->h, .rate = s->rate,
                             .frames = s->time.frames };
    uint8_t *rgb = malloc((size_t)first->w * (size_t)first->h * 3);
    int16_t *samples = malloc(each * sizeof *samples);
    Avi *film = rgb && samples ? avi_begin(o, &shape, e) : NULL;
    if (!rgb || !samples) fail(e, "film: out of memory: needed room for a picture");
    bool ok = film != NULL;
    for (uint64_t frame = 0; ok && frame < shape.frames; frame++) {
        for (size_t j = 0; j < each; j++)
            samples[j] = sound_16_bits(s->track.at[frame * each + j]);
        story_picture(s, frame, rgb);
        ok = avi_frame(film, rgb, samples, e);
    }
    ok = avi_end(film, e) && ok;
    free(rgb);
    free(samples);
    return ok;
}

/* ---- captions: WebVTT ------------------------------------------------------------------------ */

static bool put(Output *o, const char *text, Error *e)
{
    return output_write(o, text, strlen(text), e);
}

/* & and < begin something in WebVTT, --> would be a cue's times. */
static bool put_text(Output *o, const char *text, Error *e)
{
    bool ok = true;
    for (; ok && *text; text++)
        switch (*text) {
        case '&': ok = put(o, "&amp;", e); break;
        case '<': ok = put(o, "&lt;", e); break;
        case '>': ok = put(o, "&gt;", e); break;
        default: ok = output_write(o, text, 1, e);
        }
    return ok;
}

static bool put_times(Output *o, const char *name, int i, uint64_t from, uint64_t to, Error *e)
{
    char line[128];
    unsigned long long t[2] = { from, to };
    int n = snprintf(line, sizeof line, "\n%s-%d\n", name, i + 1);
    for (int k = 0; k < 2; k++)
        n += snprintf(line + n, sizeof line - (size_t)n, "%02llu:%02llu:%02llu.%03llu%s",
                      t[k] / 3600000, t[k] / 60000 % 60, t[k] / 1000 % 60, t[k] % 1000,
                      k ? "\n" : " --> ");
    return put(o, line, e);
}

static bool put_scene(const Story *s, Output *o, int i, Error *e)
{
    const Scene *scene = &s->script.scenes[i];
    const char *heard = s->parts[i].heard, *sound = scene_sound(scene);
    if (!put_times(o, "scene", i, timeline_cue(&s->time, i), timeline_cue(&s->time, i + 1), e)
        || !put_text(o, scene->text, e) || !put(o, "\n", e)) return false;
    return heard ? put_text(o, heard, e) && put(o, "\n", e)
                 : put(o, "[", e) && put_text(o, sound ? sound : "silence", e)
                       && put(o, "]\n", e);
}

bool story_captions(const Story *s, Output *o, Error *e)
{
    bool ok = put(o, "WEBVTT\n", e);
    for (int i = 0; ok && i < s->script.count; i++) {
        const char *says = s->script.scenes[i].says;
        uint64_t from, to;
        ok = put_scene(s, o, i, e);
        if (!ok || !says || !story_says(s, i, &from, &to)) continue;
        ok = put_times(o, "narration", i, from, to, e) && put(o, "<v Narrator>", e)
             && put_text(o, says, e) && put(o, "\n", e);
    }
    return ok;
}

bool story_says(const Story *s, int i, uint64_t *from, uint64_t *to)
{
    const Sound *voice = &s->parts[i].voice;
    const uint64_t rate = (uint64_t)s->rate;
    *from = s->time.spans[i].voice * (1000 / AVI_FPS);
    *to = *from + (voice->frames * 1000 + rate - 1) / rate;
    return voice->frames > 0;
}

void part_free(Part *p)
{
    picture_free(&p->picture);
    sound_free(&p->sound);
    sound_free(&p->voice);
    output_discard(p->png);
    output_discard(p->wav);
    free(p->seen);
    free(p->heard);
    *p = (Part){ 0 };
}

void story_free(Story *s)
{
    for (int i = 0; s->parts && i < s->script.count; i++) part_free(&s->parts[i]);
    free(s->parts);
    sound_free(&s->track);
    timeline_free(&s->time);
    script_free(&s->script);
    *s = (Story){ 0 };
}
