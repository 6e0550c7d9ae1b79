/* tell.c - the verb story: scenes to pictures and sounds in time.
 * Read in this order: orders, the script, the plan, the parts, the files, story. */
#include "command.h"
#include "fusion.h"
#include "story.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RATE_OF_SILENCE = 16000 };

/* The seed with which a picture or sound was made, and how well it agrees with its text. */
typedef struct { uint64_t seed; Pair pair; } Try;
typedef struct { Try picture, sound; } Tries;

typedef struct {
    Args *a;
    Story s;
    uint64_t *voices;                      /* pictures that each narration lasts */
    Tries *tries;                          /* of each scene */
    Plans plans;
    bool checks;                           /* --verify */
    Fusion f;                              /* with --verify or --describe */
} Teller;

/* ---- orders: what is asked of `image` and `audio`, as if it were typed ----------------------- */

typedef struct { Args args; Options options; } Order;

static bool order_begin(Order *d, const Args *a, const char *verb, int argc, char **argv, Error *e)
{
    *d = (Order){ .options = { .table = option_table, .verb = verb_bit(verb),
                               .fields = &d->args } };
    d->args.options = &d->options;
    if (!opt_parse(&d->options, argc, argv, e)) return false;
    d->args.model = a->model, d->args.sd = a->sd, d->args.audioldm = a->audioldm;
    d->args.threads = a->threads, d->args.isa = a->isa, d->args.scratch = a->scratch;
    d->args.quiet = a->quiet, d->args.verbose = a->verbose;
    return true;
}

static void order_end(Order *d)
{
    d->args.loras = d->args.embeddings = (Texts){ 0 };     /* lent by the story's own options */
    opt_free(&d->options);
}

static bool picture_order(Order *d, const Teller *k, int i, Error *e)
{
    const Args *a = k->a;
    if (!order_begin(d, a, "image", 0, NULL, e)) return false;
    d->args.prompt = k->s.script.scenes[i].text, d->args.negative = a->negative;
    d->args.width = a->width, d->args.height = a->height;
    d->args.steps = a->steps, d->args.guidance = a->guidance, d->args.eta = a->eta;
    d->args.method = a->method, d->args.schedule = a->schedule;
    d->args.clip_skip = a->clip_skip, d->args.vae = a->vae;
    d->args.loras = a->loras, d->args.embeddings = a->embeddings;
    d->args.seed = k->tries[i].picture.seed;
    return true;
}

static bool sound_order(Order *d, const Teller *k, int i, Error *e)
{
    char seconds[32];
    snprintf(seconds, sizeof seconds, "%.2f", (double)k->s.time.spans[i].length / AVI_FPS);
    if (!order_begin(d, k->a, "audio", 2, (char *[]){ "--seconds", seconds }, e)) return false;
    d->args.prompt = scene_sound(&k->s.script.scenes[i]);
    d->args.steps = k->a->sound_steps, d->args.guidance = k->a->sound_guidance;
    d->args.seed = k->tries[i].sound.seed;
    return true;
}

/* ---- the script ------------------------------------------------------------------------------ */

/* A narration's path is meant below the folder of the script. */
static bool read_voice(Teller *k, int i, Error *e)
{
    const Scene *scene = &k->s.script.scenes[i];
    const char *script = k->s.script.path, *slash = strrchr(script, '/');
    Sound *voice = &k->s.parts[i].voice;
    if (!scene->narration) return true;
    char *folder = slash && *scene->narration != '/' ? strndup(script, (size_t)(slash - script) + 1)
                                                     : strdup("");
    char *path = folder ? path_join(folder, scene->narration) : NULL;
    bool ok = path || fail(e, "%s: out of memory: needed room for a name", script);
    free(folder);
    Error inner = { 0 };
    if (ok && !sound_read(voice, path, &inner))
        ok = fail(e, "%s:%d: narration: %s", script, scene->line, inner.text);
    free(path);
    if (!ok) return false;
    sound_mono(voice);
    k->voices[i] = voice_frames(voice);
    if (!scene->says)
        say(k->a, "%s:%d: a narration without words: `says: TEXT` is for those who cannot hear it",
            script, scene->line);
    return true;
}

static bool choose_seeds(Teller *k, Error *e)
{
    const uint64_t more = (uint64_t)k->s.script.count - 1 + (uint64_t)k->a->tries;
    if (!choose_seed(k->a, e)) return false;
    if (k->a->seed > UINT64_MAX - more)
        return misuse(e, "--seed: found '%llu', want room for the seeds of %llu scenes below 2^64",
                      (unsigned long long)k->a->seed, (unsigned long long)more + 1);
    for (int i = 0; i < k->s.script.count; i++) {
        const Scene *scene = &k->s.script.scenes[i];
        k->tries[i].picture.seed = scene->seeded ? scene->seed : k->a->seed + (uint64_t)i;
        if (scene->seeded && scene->seed > UINT64_MAX - (uint64_t)k->a->tries)
            return fail(e, "%s:%d: seed: found %llu, want room for %d more below 2^64",
                        k->s.script.path, scene->line, (unsigned long long)scene->seed,
                        k->a->tries);
        k->tries[i].sound.seed = k->tries[i].picture.seed;
    }
    return true;
}

static bool read_script(Teller *k, Error *e)
{
    Story *s = &k->s;
    if (!script_read(&s->script, k->a->options->operands.at[0], e)) return false;
    const size_t n = (size_t)s->script.count;
    s->parts = calloc(n, sizeof *s->parts);
    k->voices = calloc(n, sizeof *k->voices);
    k->tries = calloc(n, sizeof *k->tries);
    if (!s->parts || !k->voices || !k->tries)
        return fail(e, "%s: out of memory: needed room for %zu scenes", s->script.path, n);
    for (int i = 0; i < s->script.count; i++)
        if (!read_voice(k, i, e)) return false;
    return timeline_make(&s->time, &s->script, k->voices, k->a->crossfade, e)
           && choose_seeds(k, e);
}

/* ---- the plan -------------------------------------------------------------------------------- */

/* A length that the model refuses is the script's, not an option's. */
static bool blame_script(const Teller *k, int i, const Error *inner, Error *e)
{
    const char *const option = "--seconds: ";
    const size_t n = strlen(option);
    if (!strncmp(inner->text, option, n))
        return fail(e, "%s:%d: seconds: %s", k->s.script.path, k->s.script.scenes[i].line,
                    inner->text + n);
    fail(e, "%s", inner->text);
    e->code = inner->code;
    return false;
}

static bool plan_one(Teller *k, int i, const char *of, bool begun, Order *d, Error *e)
{
    Error inner = { 0 };
    k->plans.of = of;
    d->args.plan = true, d->args.plans = &k->plans;
    d->args.quiet = true;
    const bool ok = begun && (*of == 'p' ? make_image : make_audio)(&d->args, true, &inner);
    order_end(d);
    return begun && (ok || blame_script(k, i, &inner, e));
}

/* CLIP and CLAP, where something is to be checked or described. */
static bool open_models(Teller *k, Error *e)
{
    static const char *const words[] = { "threshold", "phrases", "clip", "clap" };
    bool hears = false;
    for (int i = 0; i < k->s.script.count; i++)
        hears = hears || scene_sound(&k->s.script.scenes[i]);
    k->checks = opt_given(k->a->options, "verify");
    for (size_t i = 0; i < countof(words); i++)
        if (opt_given(k->a->options, words[i]) && !k->checks && (!k->a->describe || !i))
            return misuse(e, "--%s: of no use without --verify%s", words[i],
                          i ? " or --describe" : "");
    if (!k->checks && !k->a->describe) return true;
    if (!fusion_begin(&k->f, k->a, true, hears, e)) return false;
    for (int i = 0; i < k->plans.count; i++)              /* it stays open beside them */
        k->plans.stages[i].memory += k->f.m.size;
    k->plans.stages[k->plans.count++] = (Stage){ .name = "check", .memory = k->f.m.size };
    return true;
}

/* Ask both models about every scene, so that what cannot work is refused before anything is
 * computed. */
static bool plan_story(Teller *k, Error *e)
{
    size_t need = 0;
    for (int i = 0; i < k->s.script.count; i++) {
        Order d;
        if (!plan_one(k, i, "picture", picture_order(&d, k, i, e), &d, e)) return false;
        if (scene_sound(&k->s.script.scenes[i])
            && !plan_one(k, i, "sound", sound_order(&d, k, i, e), &d, e)) return false;
    }
    if (!open_models(k, e)) return false;
    for (int i = 0; i < k->plans.count; i++) need = zmax(need, k->plans.stages[i].memory);
    if (k->a->plan) print_plan(k->a, k->plans.stages, k->plans.count);
    return k->a->plan || check_memory(k->a, need, e);
}

/* ---- the parts ------------------------------------------------------------------------------- */

static bool make_picture(const Teller *k, int i, Part *to, Error *e)
{
    Order d;
    bool ok = picture_order(&d, k, i, e);
    d.args.into = &to->png;
    ok = ok && make_image(&d.args, true, e);
    order_end(&d);
    size_t n = 0;
    const uint8_t *bytes = ok ? output_bytes(to->png, &n) : NULL;
    return ok && picture_parse(&to->picture, bytes, n, "picture", e);
}

static bool make_sound(const Teller *k, int i, Part *to, Error *e)
{
    Order d;
    bool ok = sound_order(&d, k, i, e);
    d.args.into = &to->wav;
    ok = ok && make_audio(&d.args, true, e);
    order_end(&d);
    size_t n = 0;
    const uint8_t *bytes = ok ? output_bytes(to->wav, &n) : NULL;
    if (!ok || !sound_parse(&to->sound, bytes, n, "sound", e)) return false;
    return to->sound.rate % AVI_FPS == 0
           || fail(e, "sound: rate, found %d Hz, want a multiple of %d: as many samples behind "
                   "every picture", to->sound.rate, AVI_FPS);
}

/* Nothing to hear, but as long as the scene. */
static bool make_silence(const Teller *k, int i, Part *to, Error *e)
{
    static const char *const texts[] = { "Software", "fusion " VERSION, NULL };
    const size_t n = (size_t)(k->s.time.spans[i].length * (uint64_t)k->s.rate / AVI_FPS);
    to->sound = (Sound){ .rate = k->s.rate, .channels = 1, .frames = n,
                         .at = calloc(n, sizeof(float)) };
    if (!to->sound.at) return fail(e, "out of memory: needed room for %zu samples", n);
    to->wav = output_memory("silence", e);
    return to->wav && wav_write(to->wav, &to->sound, false, texts, e);
}

/* A copy of the picture, which CLIP makes small. */
static bool copy_picture(const Part *part, Picture *copy, Error *e)
{
    size_t n;
    const uint8_t *bytes = output_bytes(part->png, &n);
    return picture_parse(copy, bytes, n, "picture", e);
}

/* How well the picture or sound agrees with the text that it was made from. */
static bool judge(Teller *k, int i, bool hear, const Part *part, Pair *out, Error *e)
{
    const Scene *scene = &k->s.script.scenes[i];
    const double from = k->a->threshold;
    Picture p = { 0 };
    Verdict v;
    const bool ok = hear ? check_agree(&k->f, scene_sound(scene), NULL, &part->sound, from, &v, e)
                         : copy_picture(part, &p, e)
                               && check_agree(&k->f, scene->text, &p, NULL, from, &v, e);
    picture_free(&p);
    if (ok) *out = v.pair[hear ? TEXT_SOUND : TEXT_PICTURE];
    return ok;
}

static bool better(const Pair *p, const Pair *than)
{
    return p->percentile > than->percentile
           || (p->percentile == than->percentile && p->score > than->score);
}

static void swap_made(Part *a, Part *b, bool hear)
{
    const Part old = *a;
    if (hear) {
        a->sound = b->sound, a->wav = b->wav;
        b->sound = old.sound, b->wav = old.wav;
    } else {
        a->picture = b->picture, a->png = b->png;
        b->picture = old.picture, b->png = old.png;
    }
}

/* Picture or sound of scene i into its part; with --verify again, with the next seeds, until the
 * check is content or the tries are over: then the best is kept. */
static bool make_agreeing(Teller *k, int i, bool hear, Error *e)
{
    Try *try = hear ? &k->tries[i].sound : &k->tries[i].picture;
    const uint64_t first = try->seed;
    uint64_t best = first;
    for (int n = 0; n <= k->a->tries && !try->pair.agree; n++) {
        Part new = { 0 };
        Pair pair = { 0 };
        try->seed = first + (uint64_t)n;
        bool ok = (hear ? make_sound : make_picture)(k, i, &new, e)
                  && (!k->checks || judge(k, i, hear, &new, &pair, e));
        if (ok && (!n || better(&pair, &try->pair))) {
            swap_made(&k->s.parts[i], &new, hear);
            try->pair = pair;
            best = try->seed;
        }
        part_free(&new);
        if (!ok) return false;
        if (k->checks)
            say(k->a, "%s %d, seed %llu: percentile %.1f, want %g", hear ? "sound" : "picture",
                i + 1, (unsigned long long)try->seed, pair.percentile, k->a->threshold);
    }
    try->seed = best;
    return true;
}

/* What CLIP sees and CLAP hears, in the language of the story. */
static bool describe(Teller *k, int i, Error *e)
{
    Part *part = &k->s.parts[i];
    const Language l = k->s.script.lang && !strcmp(k->s.script.lang, "fr") ? FRENCH : ENGLISH;
    Caption c = { 0 };
    Hearing h = { 0 };
    Picture p = { 0 };
    bool ok = copy_picture(part, &p, e) && caption_picture(&k->f, &p, CONFIDENCE, &c, e);
    if (ok) part->seen = strdup(c.sentence[l]);
    picture_free(&p);
    caption_free(&c);
    if (ok && scene_sound(&k->s.script.scenes[i])) {
        ok = caption_sound(&k->f, &part->sound, HEARD_FROM, &h, e);
        if (ok) part->heard = strdup(h.sentence[l]);
        hearing_free(&h);
    }
    return ok;
}

/* Sounds that have a rate, then silence and voices at that rate. */
static bool make_parts(Teller *k, Error *e)
{
    const int count = k->s.script.count;
    k->s.rate = RATE_OF_SILENCE;
    for (int i = 0; i < count; i++) {
        const Scene *scene = &k->s.script.scenes[i];
        say(k->a, "scene %d of %d: %s", i + 1, count, scene->text);
        if (!make_agreeing(k, i, false, e)) return false;
        if (scene_sound(scene)) {
            say(k->a, "sound %d of %d: %s", i + 1, count, scene_sound(scene));
            if (!make_agreeing(k, i, true, e)) return false;
            k->s.rate = k->s.parts[i].sound.rate;
        }
        if (k->a->describe && !describe(k, i, e)) return false;
    }
    for (int i = 0; i < count; i++) {
        Part *part = &k->s.parts[i];
        if (!part->sound.at && !make_silence(k, i, part, e)) return false;
        if (part->voice.at && !sound_resample(&part->voice, k->s.rate, e)) return false;
    }
    return true;
}

/* ---- the files ------------------------------------------------------------------------------- */

enum { FILM, CAPTIONS, PAGE, STORY_FILES, FILES_MOST = STORY_FILES + 2 * SCENES_MOST };
static const char *const names[STORY_FILES] = { "story.avi", "story.vtt", "story.html" };

static int file_count(const Teller *k) { return STORY_FILES + 2 * k->s.script.count; }

/* File number n of the story in the folder; the caller frees. */
static char *file_path(const Teller *k, int n, Error *e)
{
    char name[32];
    const int scene = (n - STORY_FILES) / 2 + 1;
    if (n < STORY_FILES) snprintf(name, sizeof name, "%s", names[n]);
    else snprintf(name, sizeof name, "scene-%d.%s", scene, (n - STORY_FILES) % 2 ? "wav" : "png");
    char *path = path_join(k->a->output, name);
    if (!path) fail(e, "%s: out of memory: needed room for a name", k->a->output);
    return path;
}

static Output *file_open(const Teller *k, int n, Error *e)
{
    char *path = file_path(k, n, e);
    Output *o = path ? output_open(path, e) : NULL;
    free(path);
    return o;
}

/* All files can be made, or the folder can, as far as can be known now. */
static bool check_folder(const Teller *k, Error *e)
{
    const char *folder = k->a->output;
    if (!folder) return misuse(e, "--output: missing, want -o DIR");
    if (!strcmp(folder, "-")) return misuse(e, "--output: found '-', want a folder");
    if (folder_exists(folder)) {
        for (int n = 0; n < file_count(k); n++) {
            Output *o = file_open(k, n, e);
            if (!o) return false;
            output_discard(o);
        }
        return true;
    }
    struct stat s;
    if (!lstat(folder, &s)) return fail(e, "%s: found a file, want a folder", folder);
    char *parent = strdup(folder);
    if (!parent) return fail(e, "%s: out of memory: needed room for a name", folder);
    size_t n = strlen(parent);
    while (n > 1 && parent[n - 1] == '/') n--;
    while (n && parent[n - 1] != '/') n--;
    parent[n] = 0;
    const bool ok = !access(n ? parent : ".", W_OK | X_OK);
    if (!ok) fail(e, "%s: cannot make the folder: %s", folder, strerror(errno));
    free(parent);
    return ok;
}

static bool write_file(const Teller *k, int n, Output *o, Error *e)
{
    if (n == FILM) return story_film(&k->s, o, e);
    if (n == CAPTIONS) return story_captions(&k->s, o, e);
    if (n == PAGE) return story_page(&k->s, o, e);
    const Part *part = &k->s.parts[(n - STORY_FILES) / 2];
    size_t size;
    const uint8_t *bytes = output_bytes((n - STORY_FILES) % 2 ? part->wav : part->png, &size);
    return output_write(o, bytes, size, e);
}

/* Every file is written before the first is given its name. */
static bool write_files(const Teller *k, Error *e)
{
    Output *files[FILES_MOST] = { NULL };
    const int count = file_count(k);
    const bool made = !folder_exists(k->a->output);
    if (made && mkdir(k->a->output, 0777))
        return fail(e, "%s: cannot make the folder: %s", k->a->output, strerror(errno));
    bool ok = true;
    for (int n = 0; ok && n < count; n++)
        ok = (files[n] = file_open(k, n, e)) && write_file(k, n, files[n], e);
    for (int n = 0; n < count; n++) {
        if (ok) ok = output_commit(files[n], e);
        else output_discard(files[n]);
    }
    if (!ok && made) rmdir(k->a->output);
    return ok;
}

/* ---- story ----------------------------------------------------------------------------------- */

static void print_path(const Teller *k, const char *key, int n)
{
    char *path = file_path(k, n, &(Error){ 0 });
    printf("\"%s\": ", key);
    print_json(path ? path : "");
    free(path);
}

/* What was found of the scene: how it agrees with its texts, and what it says of itself. */
static void print_check(const Teller *k, int i)
{
    const Tries *t = &k->tries[i];
    const Part *part = &k->s.parts[i];
    const bool hear = scene_sound(&k->s.script.scenes[i]);
    if (k->checks) {
        printf("\"picture_percentile\": %.2f, ", t->picture.pair.percentile);
        if (hear) printf("\"sound_percentile\": %.2f, ", t->sound.pair.percentile);
        printf("\"agree\": %s, ",
               t->picture.pair.agree && (!hear || t->sound.pair.agree) ? "true" : "false");
    }
    if (part->seen) {
        fputs("\"seen\": ", stdout);
        print_json(part->seen);
        fputs(", ", stdout);
    }
    if (part->heard) {
        fputs("\"heard\": ", stdout);
        print_json(part->heard);
        fputs(", ", stdout);
    }
}

static void print_scene(const Teller *k, int i)
{
    const Span *span = &k->s.time.spans[i];
    const double start = (double)span->begin / AVI_FPS, seconds = (double)span->length / AVI_FPS;
    const char *text = k->s.script.scenes[i].text, *sound = scene_sound(&k->s.script.scenes[i]);
    const unsigned long long seed = k->tries[i].picture.seed;
    if (!k->a->json) {
        printf("%d\t%.2f\t%.2f\t%llu\t", i + 1, start, seconds, seed);
        print_field(text);
        putchar('\n');
        return;
    }
    printf("{\"scene\": %d, \"text\": ", i + 1);
    print_json(text);
    fputs(", \"sound\": ", stdout);
    if (sound) print_json(sound);
    else fputs("null", stdout);
    printf(", \"start\": %.2f, \"seconds\": %.2f, \"crossfade\": %.2f, \"captions\": %.3f, ", start,
           seconds, (double)span->fade / AVI_FPS, (double)timeline_cue(&k->s.time, i) / 1000);
    printf("\"seed\": %llu, \"sound_seed\": %llu, ", seed,
           (unsigned long long)k->tries[i].sound.seed);
    print_check(k, i);
    print_path(k, "picture_file", STORY_FILES + 2 * i);
    fputs(", ", stdout);
    print_path(k, "sound_file", STORY_FILES + 2 * i + 1);
    puts("}");
}

static void print_story(const Teller *k)
{
    const Story *s = &k->s;
    for (int i = 0; i < s->script.count; i++) print_scene(k, i);
    if (!k->a->json) return;
    printf("{\"scenes\": %d, \"seconds\": %.2f, \"frames\": %llu, \"samples\": %zu, \"rate\": %d, "
           "\"width\": %d, \"height\": %d, ", s->script.count, (double)s->time.frames / AVI_FPS,
           (unsigned long long)s->time.frames, s->track.frames, s->rate, s->parts[0].picture.w,
           s->parts[0].picture.h);
    print_path(k, "film", FILM);
    fputs(", ", stdout);
    print_path(k, "captions", CAPTIONS);
    fputs(", ", stdout);
    print_path(k, "page", PAGE);
    puts("}");
}

int verb_story(Args *a, Error *e)
{
    Teller k = { .a = a };
    bool ok = read_script(&k, e) && (a->plan || check_folder(&k, e)) && plan_story(&k, e);
    if (ok && !a->plan) {
        say(a, "seed %llu", (unsigned long long)a->seed);
        ok = make_parts(&k, e) && story_mix(&k.s, e) && write_files(&k, e);
        if (ok && a->quiet) fprintf(stderr, "seed %llu\n", (unsigned long long)a->seed);
        if (ok) print_story(&k);
    }
    fusion_close(&k.f);
    story_free(&k.s);
    free(k.voices);
    free(k.tries);
    return ok ? 0 : 1;
}
