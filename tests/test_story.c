/* Scenes in time: scripts good and bad, the timeline, the mix, the film byte by byte, captions, the
 * page. */
#include "story.h"
#include "test.h"

/* ---- scripts --------------------------------------------------------------------------------- */

static bool parse(Script *s, const char *text, Error *e)
{
    *e = (Error){ 0 };
    return script_parse(s, text, strlen(text), "s.txt", e);
}

TEST(a_script_of_all_keys)
{
    static const char text[] = "\xef\xbb\xbf" "title: A day: \"one\"\r\nlang: fr\r\n\r\n"
        "# remark\r\n"
        "scene:  a lake  \r\nsound: birds\r\n# within\r\nseconds: 2.5\r\nseed: 18446744073709551615"
        "\r\nnarration: v/a.wav\r\nsays: Bonjour\r\n\r\n  \r\n\tscene : a cat\tasleep";
    Script s;
    Error e;
    CHECK(parse(&s, text, &e));
    CHECK_STR(e.text, "");
    CHECK(s.count == 2);
    if (s.count != 2) return;
    CHECK_STR(s.title, "A day: \"one\"");
    CHECK_STR(s.lang, "fr");
    CHECK_STR(s.scenes[0].text, "a lake");
    CHECK_STR(scene_sound(&s.scenes[0]), "birds");
    CHECK_STR(s.scenes[0].narration, "v/a.wav");
    CHECK_STR(s.scenes[0].says, "Bonjour");
    CHECK(s.scenes[0].seconds == 2.5 && s.scenes[0].seeded && s.scenes[0].seed == UINT64_MAX);
    CHECK(s.scenes[0].line == 5);
    CHECK_STR(s.scenes[1].text, "a cat asleep");
    CHECK_STR(scene_sound(&s.scenes[1]), "a cat asleep");
    CHECK(!s.scenes[1].seeded && s.scenes[1].seconds == 0 && s.scenes[1].line == 14);
    script_free(&s);
    CHECK(parse(&s, "scene: x\nsound: none\n", &e));
    CHECK(s.count == 1 && !scene_sound(&s.scenes[0]));
    script_free(&s);
}

TEST(hostile_scripts)
{
    static const struct { const char *text, *want; } bad[] = {
        { "", "s.txt: found no scene, want scene: TEXT" },
        { "title: x\n\n\n", "s.txt: found no scene" },
        { "scene: a\nsound:\n", "s.txt:2: sound: found nothing behind it" },
        { "scene: a\n\nsound: b\n", "s.txt:3: scene: missing in the paragraph that begins here" },
        { "scene: a\ncolour: red\n", "s.txt:2: found 'colour:', want one of scene, sound" },
        { "Scene: a\n", "s.txt:1: found 'Scene:', want one of" },
        { "scene a\n", "s.txt:1: found 'scene a', want key: value" },
        { "scene: a\nscene: b\n", "s.txt:2: scene: given twice in this scene" },
        { "title: a\ntitle: b\n", "s.txt:2: title: given twice" },
        { "scene: a\n\ntitle: b\n", "s.txt:3: title: found behind a scene" },
        { "lang: de\n", "s.txt:1: lang: found 'de', want one of en, fr" },
        { "scene: a\nseconds: 0\n", "s.txt:2: seconds: found '0', want a number in 0.04..600" },
        { "scene: a\nseconds: -1\n", "s.txt:2: seconds: found '-1'" },
        { "scene: a\nseconds: nan\n", "s.txt:2: seconds: found 'nan'" },
        { "scene: a\nseconds: 601\n", "s.txt:2: seconds: found '601'" },
        { "scene: a\nseconds: 1e999\n", "s.txt:2: seconds: found '1e999'" },
        { "scene: a\nseconds: 4 s\n", "s.txt:2: seconds: found '4 s'" },
        { "scene: a\nseconds: 1\nseconds: 1\n", "s.txt:3: seconds: given twice" },
        { "scene: a\nseed: 1\nseed: 2\n", "s.txt:3: seed: given twice" },
        { "scene: a\nseed: -1\n", "s.txt:2: seed: found '-1', want a whole number in 0..1844" },
        { "scene: a\nseed: 18446744073709551616\n", "s.txt:2: seed: found '1844" },
        { "scene: a\nseed: 1.0\n", "s.txt:2: seed: found '1.0'" },
        { "scene: a\nseed: 0x1\n", "s.txt:2: seed: found '0x1'" },
        { "scene: a\nsays: hello\n", "s.txt:1: says: found in a scene without narration" },
        { "scene: \xff\n", "s.txt:1: line: found bytes that are no UTF-8" },
        { "scene: \xc0\xaf\n", "s.txt:1: line: found bytes that are no UTF-8" },
        { "scene: a\x01\n", "s.txt:1: line: found control byte 0x01" },
        { "scene: a\rb\n", "s.txt:1: line: found control byte 0x0d" },
        { "scene: \x1b[31m\n", "s.txt:1: line: found control byte 0x1b" },
    };
    for (size_t i = 0; i < countof(bad); i++) {
        Script s;
        Error e;
        CHECK(!parse(&s, bad[i].text, &e));
        CHECK(e.code == 1 && !s.count && !s.path);
        if (strncmp(e.text, bad[i].want, strlen(bad[i].want))) CHECK_STR(e.text, bad[i].want);
    }
    Script s;
    Error e = { 0 };
    CHECK(!script_parse(&s, "scene: a\0b", 10, "s.txt", &e));
    CHECK(strstr(e.text, "control byte 0x00") != NULL);
}

TEST(scripts_that_are_too_long)
{
    static char text[1 << 16];
    size_t n = 0;
    Script s;
    Error e;
    for (int i = 0; i <= SCENES_MOST; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "scene: a\n\n");
    CHECK(!parse(&s, text, &e));
    CHECK_STR(e.text, "s.txt:201: scenes: found one more, want at most 100");
    text[10 * SCENES_MOST] = 0;
    CHECK(parse(&s, text, &e));
    CHECK(s.count == SCENES_MOST);
    script_free(&s);
    n = (size_t)snprintf(text, sizeof text, "scene: ");
    memset(text + n, 'x', LINE_MOST);
    text[n + LINE_MOST] = 0;
    CHECK(!parse(&s, text, &e));
    CHECK_STR(e.text, "s.txt:1: line: found 4007 bytes, want at most 4000");
    text[LINE_MOST] = 0;
    CHECK(parse(&s, text, &e));
    CHECK(strlen(s.scenes[0].text) == LINE_MOST - n);
    script_free(&s);
}

/* ---- the timeline ---------------------------------------------------------------------------- */

TEST(places_of_scenes)
{
    Script s;
    Error e;
    Timeline t;
    CHECK(parse(&s, "scene: a\nseconds: 2\n\nscene: b\n\nscene: c\nseconds: 0.2\n\nscene: d\n"
                "seconds: 1.01\n", &e));
    CHECK(timeline_make(&t, &s, (uint64_t[4]){ 0 }, 0.5, &e));
    /* lengths 50, 100, 5, 25; 0.5 s is 12.5 pictures, so 13, but at most half of 5 */
    static const Span want[] = { { 0, 50, 0, 0 }, { 37, 100, 13, 50 }, { 135, 5, 2, 137 },
                                 { 138, 25, 2, 140 } };
    for (int i = 0; i < 4; i++)
        CHECK(t.spans[i].begin == want[i].begin && t.spans[i].length == want[i].length
              && t.spans[i].fade == want[i].fade && t.spans[i].voice == want[i].voice);
    CHECK(t.frames == 163);
    static const uint64_t cues[] = { 0, 1740, 5440, 5560, 6520 };
    for (int i = 0; i <= 4; i++) CHECK(timeline_cue(&t, i) == cues[i]);
    timeline_free(&t);
    CHECK(timeline_make(&t, &s, (uint64_t[4]){ 0 }, 0, &e));
    CHECK(t.frames == 180 && t.spans[3].begin == 155);
    timeline_free(&t);
    script_free(&s);
}

TEST(narrations_have_room)
{
    Script s;
    Error e;
    Timeline t;
    CHECK(parse(&s, "scene: a\nseconds: 2\n\nscene: b\n\nscene: c\n", &e));
    CHECK(timeline_make(&t, &s, (uint64_t[3]){ 0, 150, 30 }, 0.4, &e));
    CHECK(t.spans[1].length == 170 && t.spans[1].begin == 40 && t.spans[1].voice == 50);
    CHECK(t.spans[2].length == 100 && t.spans[2].begin == 200 && t.spans[2].voice == 210);
    timeline_free(&t);
    CHECK(timeline_make(&t, &s, (uint64_t[3]){ 40, 0, 0 }, 0.4, &e));
    timeline_free(&t);
    CHECK(!timeline_make(&t, &s, (uint64_t[3]){ 41, 0, 0 }, 0.4, &e));
    CHECK_STR(e.text, "s.txt:1: seconds: found 2, want at least 2.04 for the narration, or none: "
                      "it is then long enough");
    CHECK(!t.spans);
    script_free(&s);
    /* whole pictures, whatever the rate of the narration */
    CHECK(voice_frames(&(Sound){ .rate = 16000, .frames = 640 }) == 1);
    CHECK(voice_frames(&(Sound){ .rate = 16000, .frames = 641 }) == 2);
    CHECK(voice_frames(&(Sound){ .rate = 44100, .frames = 44100 }) == 25);
}

/* ---- a story without models ------------------------------------------------------------------ */

enum { W = 5, H = 3, RATE = 1000, EACH = RATE / AVI_FPS };

/* Two scenes of a second, 0.4 s shared: red then blue, sounds of one value each. */
static void make_story(Story *s, const char *script, float level, size_t voice)
{
    Error e;
    *s = (Story){ .rate = RATE };
    CHECK(parse(&s->script, script, &e));
    uint64_t voices[2] = { (voice + EACH - 1) / EACH, 0 };
    CHECK(timeline_make(&s->time, &s->script, voices, 0.4, &e));
    s->parts = calloc(2, sizeof *s->parts);
    for (int i = 0; i < 2; i++) {
        Part *p = &s->parts[i];
        const size_t n = (size_t)s->time.spans[i].length * EACH;
        CHECK(picture_make(&p->picture, W, H, "test", &e));
        for (int j = 0; j < W * H; j++) {
            p->picture.rgb[3 * j] = i ? 0 : 255;
            p->picture.rgb[3 * j + 1] = (uint8_t)j;
            p->picture.rgb[3 * j + 2] = i ? 255 : 0;
        }
        p->sound = (Sound){ .rate = RATE, .channels = 1, .frames = n,
                            .at = calloc(n, sizeof(float)) };
        for (size_t j = 0; j < n; j++) p->sound.at[j] = level;
        p->png = output_memory("png", &e);
        CHECK(png_write(p->png, W, H, p->picture.rgb, NULL, &e));
    }
    if (!voice) return;
    Sound *v = &s->parts[0].voice;
    *v = (Sound){ .rate = RATE, .channels = 1, .frames = voice,
                  .at = calloc(voice, sizeof(float)) };
    for (size_t j = 0; j < voice; j++) v->at[j] = 0.25f;
}

static const char two[] = "scene: a\nseconds: 1\n\nscene: b\nseconds: 1\n";

TEST(pictures_fade)
{
    Story s;
    uint8_t p[W * H * 3];
    make_story(&s, two, 0.1f, 0);
    CHECK(s.time.frames == 40);
    story_picture(&s, 14, p);
    CHECK(p[0] == 255 && p[2] == 0);
    story_picture(&s, 15, p);                             /* the first of ten: 1/20 of the second */
    CHECK(p[0] == 242 && p[2] == 13 && p[3 * 7 + 1] == 7);
    story_picture(&s, 24, p);
    CHECK(p[0] == 13 && p[2] == 242);
    story_picture(&s, 25, p);
    CHECK(p[0] == 0 && p[2] == 255);
    story_picture(&s, 39, p);
    CHECK(p[0] == 0 && p[2] == 255);
    story_free(&s);
}

TEST(sounds_fade_in_equal_power)
{
    Story s;
    Error e = { 0 };
    make_story(&s, two, 0.5f, 0);
    CHECK(story_mix(&s, &e));
    CHECK(s.track.frames == 40 * EACH && s.track.rate == RATE);
    CHECK(s.track.at[0] == 0 && fabs(s.track.at[300] - 0.5) < 1e-6);
    for (int j = 0; j < 400; j++) {                        /* cos + sin, in the middle of samples */
        const double x = 1.5707963267948966 * (j + 0.5) / 400;
        CHECK(fabs(s.track.at[600 + j] - 0.5 * (cos(x) + sin(x))) < 1e-6);
    }
    CHECK(fabs(s.track.at[1100] - 0.5) < 1e-6 && s.track.at[1599] == 0);
    story_free(&s);
}

TEST(too_loud_becomes_quieter)
{
    Story s;
    Error e = { 0 };
    make_story(&s, two, 1, 0);
    CHECK(story_mix(&s, &e));
    CHECK(sound_peak(&s.track) <= 1 && sound_peak(&s.track) > 0.9999);
    CHECK(fabs(s.track.at[300] - 0.70711) < 1e-4);
    story_free(&s);
}

TEST(narration_ducks)
{
    Story s;
    Error e = { 0 };
    uint64_t from, to;
    make_story(&s, "scene: a\nseconds: 4\nnarration: v\nsays: x\n\nscene: b\nseconds: 1\n", 0.5f,
               1005);
    CHECK(s.time.spans[0].voice == 0);
    CHECK(story_says(&s, 0, &from, &to) && from == 0 && to == 1005);
    CHECK(!story_says(&s, 1, &from, &to));
    CHECK(story_mix(&s, &e));
    const double down = 0.5 * pow(10, -12.0 / 20);
    CHECK(fabs(s.track.at[500] - (down + 0.25)) < 1e-6);
    CHECK(fabs(s.track.at[1004] - (down + 0.25)) < 1e-6);
    for (int j = 1; j < 300; j++) CHECK(s.track.at[1005 + j] > s.track.at[1004 + j]);
    CHECK(fabs(s.track.at[1005 + 149] - 0.5 * pow(10, -6.0 / 20)) < 1e-4);
    CHECK(fabs(s.track.at[1305] - 0.5) < 1e-6);
    story_free(&s);
}

/* ---- film ------------------------------------------------------------------------------------ */

static uint64_t get(const uint8_t *p, int bytes)
{
    uint64_t v = 0;
    while (bytes--) v = v << 8 | p[bytes];
    return v;
}

static bool is(const uint8_t *p, const char *id) { return !memcmp(p, id, 4); }

/* The chunk or list `id` among the children between from and to, or NULL. */
static const uint8_t *find(const uint8_t *from, const uint8_t *to, const char *id)
{
    while (to - from >= 8) {
        const uint64_t size = get(from + 4, 4);
        const bool list = is(from, "LIST") || is(from, "RIFF");
        if (is(from, id) || (list && size >= 4 && is(from + 8, id))) return from;
        from += 8 + size + size % 2;
    }
    return NULL;
}

/* A film of n frames whose pictures and samples tell their number. */
static Output *make_film(const AviShape *shape, Error *e)
{
    Output *o = output_memory("film", e);
    Avi *film = avi_begin(o, shape, e);
    const int each = shape->rate / AVI_FPS, area = shape->w * shape->h;
    uint8_t *rgb = malloc((size_t)area * 3);
    int16_t *samples = malloc((size_t)each * sizeof *samples);
    CHECK(film != NULL);
    for (uint64_t f = 0; film && f < shape->frames; f++) {
        for (int i = 0; i < area * 3; i++) rgb[i] = (uint8_t)(f + (uint64_t)i);
        for (int i = 0; i < each; i++) samples[i] = (int16_t)((int)f * each + i - 300);
        CHECK(avi_frame(film, rgb, samples, e));
    }
    CHECK(film && !avi_frame(film, rgb, samples, &(Error){ 0 }));
    CHECK(avi_end(film, e));
    free(rgb);
    free(samples);
    return o;
}

/* Frame f as it must lie in the file: bottom up, BGR, rows of whole words. */
static void check_picture(const uint8_t *at, uint64_t f, int w, int h)
{
    const int stride = (w * 3 + 3) / 4 * 4;
    for (int y = 0; y < h; y++)
        for (int x = 0; x < stride; x++) {
            const int pixel = ((h - 1 - y) * w + x / 3) * 3 + 2 - x % 3;
            CHECK(at[y * stride + x] == (x < 3 * w ? (uint8_t)(f + (uint64_t)pixel) : 0));
        }
}

static void check_headers(const uint8_t *at, const AviShape *s, uint64_t in_first)
{
    const uint8_t *end = at + 8 + get(at + 4, 4), *hdrl = find(at + 12, end, "hdrl");
    CHECK(is(at, "RIFF") && is(at + 8, "AVI ") && hdrl);
    const uint8_t *in = hdrl + 12, *out = hdrl + 8 + get(hdrl + 4, 4);
    const uint8_t *avih = find(in, out, "avih"), *video = find(in, out, "strl");
    const uint8_t *audio = find(video + 8 + get(video + 4, 4), out, "strl");
    const uint8_t *odml = find(in, out, "odml");
    CHECK(avih && video && audio && odml);
    CHECK(get(avih + 4, 4) == 56 && get(avih + 8, 4) == 40000 && get(avih + 24, 4) == in_first);
    CHECK(get(avih + 32, 4) == 2 && get(avih + 40, 4) == (uint64_t)s->w
          && get(avih + 44, 4) == (uint64_t)s->h);
    CHECK(is(odml + 12, "dmlh") && get(odml + 20, 4) == s->frames);
    const uint8_t *strh = find(video + 12, out, "strh"), *strf = find(video + 12, out, "strf");
    CHECK(is(strh + 8, "vids") && get(strh + 28, 4) == 1 && get(strh + 32, 4) == 25
          && get(strh + 40, 4) == s->frames);
    CHECK(get(strf + 4, 4) == 40 && get(strf + 12, 4) == (uint64_t)s->w
          && get(strf + 16, 4) == (uint64_t)s->h && get(strf + 22, 2) == 24
          && get(strf + 24, 4) == 0);
    strh = find(audio + 12, out, "strh"), strf = find(audio + 12, out, "strf");
    const uint64_t rate = (uint64_t)s->rate;
    CHECK(is(strh + 8, "auds") && get(strh + 28, 4) * rate == get(strh + 32, 4)
          && get(strh + 40, 4) * 25 == s->frames * rate && get(strh + 52, 4) == 2);
    CHECK(get(strf + 8, 2) == 1 && get(strf + 10, 2) == 1 && get(strf + 12, 4) == rate
          && get(strf + 16, 4) == 2 * rate && get(strf + 20, 2) == 2 && get(strf + 22, 2) == 16);
}

/* All chunks of stream 0 or 1 by the index of indexes: each where it says, in order. */
static void check_index(const uint8_t *at, const uint8_t *indx, int stream, const AviShape *s,
                        uint64_t segments)
{
    const char *chunk = stream ? "01wb" : "00db", *ix_name = stream ? "ix01" : "ix00";
    const int each = s->rate / AVI_FPS;
    uint64_t f = 0;
    CHECK(get(indx + 8, 2) == 4 && indx[11] == 0 && is(indx + 16, chunk));
    CHECK(get(indx + 12, 4) == segments);
    for (uint64_t i = 0; i < segments; i++) {
        const uint8_t *entry = indx + 32 + 16 * i, *ix = at + get(entry, 8);
        const uint64_t n = get(ix + 12, 4), base = get(ix + 20, 8);
        CHECK(is(ix, ix_name) && get(ix + 4, 4) + 8 == get(entry + 8, 4));
        CHECK(get(entry + 12, 4) == (stream ? n * (uint64_t)each : n) && ix[11] == 1);
        CHECK(is(at + base, "movi"));
        for (uint64_t j = 0; j < n; j++, f++) {
            const uint8_t *data = at + base + get(ix + 32 + 8 * j, 4);
            CHECK(is(data - 8, chunk) && get(data - 4, 4) == get(ix + 36 + 8 * j, 4));
            if (!stream) { check_picture(data, f, s->w, s->h); continue; }
            for (int k = 0; k < each; k++)
                CHECK((int16_t)get(data + 2 * k, 2) == (int16_t)((int)f * each + k - 300));
        }
    }
    CHECK(f == s->frames);
}

static void check_old_index(const uint8_t *at, uint64_t frames)
{
    const uint8_t *end = at + 8 + get(at + 4, 4), *movi = find(at + 12, end, "movi");
    const uint8_t *idx1 = find(at + 12, end, "idx1");
    CHECK(movi && idx1 && get(idx1 + 4, 4) == 32 * frames);
    for (uint64_t i = 0; i < 2 * frames; i++) {
        const uint8_t *entry = idx1 + 8 + 16 * i, *to = movi + 8 + get(entry + 8, 4);
        CHECK(is(entry, i % 2 ? "01wb" : "00db") && is(to, i % 2 ? "01wb" : "00db"));
        CHECK(get(entry + 4, 4) == 0x10 && get(entry + 12, 4) == get(to + 4, 4));
    }
}

static void check_film(AviShape shape, uint64_t want_segments)
{
    Error e = { 0 };
    size_t n;
    Output *o = make_film(&shape, &e);
    const uint8_t *at = output_bytes(o, &n), *riff = at;
    uint64_t segments = 0, in_first = 0;
    CHECK_STR(e.text, "");
    CHECK(n == avi_size(&shape, &e));
    for (; riff < at + n; riff += 8 + get(riff + 4, 4), segments++) {
        CHECK(is(riff, "RIFF") && is(riff + 8, segments ? "AVIX" : "AVI "));
        CHECK(!shape.segment || 8 + get(riff + 4, 4) <= shape.segment);
    }
    CHECK(riff == at + n && segments == want_segments);
    const uint8_t *hdrl = find(at + 12, at + n, "hdrl"), *end = hdrl + 8 + get(hdrl + 4, 4);
    const uint8_t *video = find(hdrl + 12, end, "strl"), *next = video + 8 + get(video + 4, 4);
    const uint8_t *indx[2] = { find(video + 12, next, "indx"),
                               find(find(next, end, "strl") + 12, end, "indx") };
    in_first = get(at + get(indx[0] + 32, 8) + 12, 4);
    check_headers(at, &shape, in_first);
    check_old_index(at, in_first);
    for (int i = 0; i < 2; i++) check_index(at, indx[i], i, &shape, segments);
    output_discard(o);
}

TEST(a_film_byte_by_byte)
{
    for (int w = 1; w <= 8; w++)
        check_film((AviShape){ .w = w, .h = 3, .rate = 1000, .frames = 7 }, 1);
    check_film((AviShape){ .w = 5, .h = 4, .rate = 16000, .frames = 1 }, 1);
}

TEST(a_film_of_many_segments)
{
    /* 31 frames in one: room is kept for a head that knows 1024 segments. */
    const AviShape shape = { .w = 5, .h = 4, .rate = 1000, .frames = 100, .segment = 40000 };
    check_film(shape, 4);
    AviShape exact = shape;
    exact.frames = 31;
    check_film(exact, 1);
    exact.frames = 32;
    check_film(exact, 2);
}

TEST(films_that_cannot_be)
{
    static const struct { AviShape shape; const char *want; } bad[] = {
        { { .w = 0, .h = 1, .rate = 16000, .frames = 1 }, "AVI: size, found 0x1" },
        { { .w = 1, .h = 40000, .rate = 16000, .frames = 1 }, "AVI: size, found 1x40000" },
        { { .w = 1, .h = 1, .rate = 16001, .frames = 1 }, "AVI: rate, found 16001 Hz, wanted a" },
        { { .w = 1, .h = 1, .rate = 16000, .frames = 0 }, "AVI: frames, found 0 of 1x1" },
        { { .w = 30000, .h = 30000, .rate = 16000, .frames = 1 }, "AVI: a picture of 30000x30000" },
        { { .w = 8192, .h = 8192, .rate = 16000, .frames = 6000 }, "AVI: frames, found 6000 of" },
    };
    for (size_t i = 0; i < countof(bad); i++) {
        Error e = { 0 };
        CHECK(!avi_size(&bad[i].shape, &e));
        if (strncmp(e.text, bad[i].want, strlen(bad[i].want))) CHECK_STR(e.text, bad[i].want);
    }
    /* Sizes beyond 4 GiB are counted right: an hour at 512x512, to the byte by its parts. */
    Error e = { 0 };
    const AviShape hour = { .w = 512, .h = 512, .rate = 16000, .frames = 90000 };
    const uint64_t size = avi_size(&hour, &e), chunks = 90000ull * (8 + 786432 + 8 + 1280 + 16);
    CHECK(size > chunks && size < chunks + 200000);
    Output *o = output_memory("film", &e);
    Avi *film = avi_begin(o, &hour, &e);
    CHECK(!avi_end(film, &e));
    CHECK_STR(e.text, "AVI: frames, found 0, wanted 90000");
    output_discard(o);
}

/* ---- captions and page ----------------------------------------------------------------------- */

static const char hostile[] =
    "title: </title><script>alert(1)</script>\n\n"
    "scene: a\" onerror='alert(2)' <img src=x> --> & b\nseconds: 1\n"
    "narration: v\nsays: </figcaption><script>alert(3)</script>\nsound: 00:00:01.000 --> &lt;\n\n"
    "scene: b\nseconds: 1\nsound: none\n";

static char *text_of(Output *o)
{
    size_t n;
    const uint8_t *bytes = output_bytes(o, &n);
    char *text = malloc(n + 1);
    memcpy(text, bytes, n);
    text[n] = 0;
    output_discard(o);
    return text;
}

TEST(captions_in_time)
{
    Story s;
    Error e = { 0 };
    make_story(&s, hostile, 0.1f, 333);
    Output *o = output_memory("vtt", &e);
    CHECK(story_captions(&s, o, &e));
    char *text = text_of(o);
    CHECK_STR(text,
              "WEBVTT\n\n"
              "scene-1\n00:00:00.000 --> 00:00:00.800\n"
              "a\" onerror='alert(2)' &lt;img src=x&gt; --&gt; &amp; b\n"
              "[00:00:01.000 --&gt; &amp;lt;]\n\n"
              "narration-1\n00:00:00.000 --> 00:00:00.333\n"
              "<v Narrator>&lt;/figcaption&gt;&lt;script&gt;alert(3)&lt;/script&gt;\n\n"
              "scene-2\n00:00:00.800 --> 00:00:01.600\nb\n[silence]\n");
    free(text);
    story_free(&s);
}

static int count(const char *text, const char *what)
{
    int n = 0;
    for (; (text = strstr(text, what)); text++) n++;
    return n;
}

TEST(a_page_of_a_hostile_script)
{
    Story s;
    Error e = { 0 };
    make_story(&s, hostile, 0.1f, 333);
    CHECK(story_mix(&s, &e));
    s.parts[1].seen = strdup("\"><script>alert(4)</script>");
    s.parts[1].heard = strdup("<b>rain</b>");
    Output *o = output_memory("html", &e);
    CHECK(story_page(&s, o, &e));
    CHECK_STR(e.text, "");
    char *text = text_of(o);
    CHECK(count(text, "<script") == 1 && count(text, "</script") == 1);
    CHECK(count(text, "<img") == 4 && count(text, "<audio") == 3 && count(text, "<figure") == 2);
    CHECK(count(text, "<b>") == 0 && count(text, "src=x>") == 0);
    CHECK(strstr(text, "<title>&lt;/title&gt;&lt;script&gt;alert(1)") != NULL);
    CHECK(strstr(text,
                 "alt=\"a&quot; onerror=&#39;alert(2)&#39; &lt;img src=x&gt; --&gt; &amp; b\"")
          != NULL);
    CHECK(strstr(text, "alt=\"&quot;&gt;&lt;script&gt;alert(4)") != NULL);
    CHECK(strstr(text, "<html lang=\"en\">") != NULL && count(text, "<h1>") == 1);
    CHECK(strstr(text, "data-start=\"800\" data-from=\"600\" data-to=\"1000\">") != NULL);
    CHECK(strstr(text, "data-say-from=\"0\" data-say-to=\"333\">") != NULL);
    /* nothing from elsewhere: every source is inside */
    CHECK(count(text, "src=\"") == 5 && count(text, "src=\"data:") == 5);
    CHECK(!strstr(text, "http:") && !strstr(text, "https:") && !strstr(text, "@import")
          && !strstr(text, "url("));
    free(text);
    story_free(&s);
}

/* The bytes of the first data: URI behind `before`. */
static size_t decode(const char *text, const char *before, uint8_t *out)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = strstr(text, before);
    size_t n = 0;
    uint32_t bits = 0, have = 0;
    if (!at) return 0;
    for (at += strlen(before); *at && strchr(digits, *at); at++) {
        bits = bits << 6 | (uint32_t)(strchr(digits, *at) - digits);
        if ((have += 6) >= 8) out[n++] = (uint8_t)(bits >> (have -= 8));
    }
    return n;
}

TEST(a_page_holds_its_files)
{
    Story s;
    Error e = { 0 };
    Sound sound = { 0 };
    static uint8_t bytes[1 << 16];
    make_story(&s, two, 0.1f, 0);
    CHECK(story_mix(&s, &e));
    Output *o = output_memory("html", &e);
    CHECK(story_page(&s, o, &e));
    char *text = text_of(o);
    size_t n = decode(text, "src=\"data:image/png;base64,", bytes), want;
    const uint8_t *png = output_bytes(s.parts[0].png, &want);
    CHECK(n == want && !memcmp(bytes, png, n));
    n = decode(text, "src=\"data:audio/wav;base64,", bytes);
    CHECK(sound_parse(&sound, bytes, n, "track", &e));
    CHECK(sound.frames == s.track.frames && sound.rate == RATE);
    sound_free(&sound);
    n = decode(strstr(text, "id=\"scene-2\""), "src=\"data:audio/wav;base64,", bytes);
    CHECK(sound_parse(&sound, bytes, n, "part", &e));
    CHECK(sound.frames == 800);                            /* from its cue at 0.8 s to the end */
    sound_free(&sound);
    /* the policy names the one script by its sum */
    char *begin = strstr(text, "<script>") + 8, hex[65], own[65];
    Sha256 sum;
    sha256_start(&sum);
    sha256_add(&sum, begin, (size_t)(strstr(begin, "</script>") - begin));
    sha256_end(&sum, hex);
    CHECK(decode(text, "script-src 'sha256-", bytes) == 32);
    for (int i = 0; i < 32; i++) snprintf(own + 2 * i, 3, "%02x", bytes[i]);
    CHECK_STR(own, hex);
    free(text);
    story_free(&s);
}

TEST(an_output_in_memory)
{
    Error e = { 0 };
    size_t n;
    Output *o = output_memory("memory", &e);
    CHECK(!output_bytes(o, &n) && n == 0);
    for (int i = 0; i < 100000; i++) {
        const uint8_t three[3] = { (uint8_t)i, (uint8_t)(i >> 8), 7 };
        CHECK(output_write(o, three, (size_t)(i % 4 == 3 ? 0 : 3), &e));
    }
    const uint8_t *at = output_bytes(o, &n);
    CHECK(n == 225000 && at[n - 1] == 7 && at[n - 3] == (uint8_t)99998);
    output_discard(o);
}
