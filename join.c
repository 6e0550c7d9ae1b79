/* join.c - the verbs that join the senses: caption, check, soundscape.
 * Read in this order: phrases and models, plans, caption, check, soundscape. */
#include "fusion.h"
#include "read.h"

#include <stdlib.h>

/* ---- phrases and models ---------------------------------------------------------------------- */

/* folder/phrases where it is there, else NULL. */
static char *phrases_in(const char *folder)
{
    char *path = path_join(folder, "phrases");
    if (path && folder_exists(path)) return path;
    free(path);
    return NULL;
}

/* The phrases of a model's own: in its folder, or beside it in the bundle; NULL: none.  The bundle
 * is where the path says, even where the model is a link to elsewhere. */
static char *own_phrases(const char *folder)
{
    if (!folder) return NULL;
    size_t n = strlen(folder);
    char *found = phrases_in(folder);
    while (n > 1 && folder[n - 1] == '/') n--;
    while (n && folder[n - 1] != '/') n--;
    char *parent = found ? NULL : n ? strndup(folder, n) : strdup(".");
    if (parent) found = phrases_in(parent);
    free(parent);
    return found;
}

/* The built-in bank, or the first folder of --phrases in its place; then the files of --phrases. */
static bool read_phrases(Phrases *p, const Args *a, const char *clip, const char *clap, Error *e)
{
    const Texts *given = &a->phrases;
    const char *first = NULL;
    for (int i = 0; i < given->count && !first; i++)
        if (folder_exists(given->at[i])) first = given->at[i];
    char *folder = first ? strdup(first) : own_phrases(clip);
    if (!folder) folder = own_phrases(clap);
    if (!folder) folder = beside_program("weights/phrases");
    if (!folder) return fail(e, "out of memory: needed room for a name");
    bool ok = folder_exists(folder) ? phrases_folder(p, folder, e)
              : given->count || fail(e, "%s: no such folder, want phrase banks: give --phrases "
                                     "PATH", folder);
    for (int i = 0; ok && i < given->count; i++)
        if (given->at[i] != first)
            ok = folder_exists(given->at[i]) ? phrases_folder(p, given->at[i], e)
                                             : phrases_read(p, given->at[i], e);
    free(folder);
    return ok;
}

bool fusion_begin(Fusion *f, Args *a, bool sees, bool hears, Error *e)
{
    *f = (Fusion){ 0 };
    char *clip = NULL, *clap = NULL;
    bool ok = choose_machine(a, e) && (!sees || (clip = model_part(a, "clip", e)))
        && (!hears || (clap = model_part(a, "clap", e)))
        && fusion_open(f, clip, clap, a->tokenizer, a->scratch, e);
    if (ok && sees) tell_unused(a, &f->clip.weights);
    if (ok && hears) tell_unused(a, &f->clap.weights);
    ok = ok && read_phrases(&f->phrases, a, clip, clap, e);
    free(clip);
    free(clap);
    if (!ok) fusion_close(f);
    return ok;
}

static Language language(const Args *a)
{
    return a->lang && !strcmp(a->lang, language_names[FRENCH]) ? FRENCH : ENGLISH;
}

/* Read a picture or sound; the wrong one of the two is named. */
static bool read_picture(Picture *p, const char *path, Error *e)
{
    if (is_wav(path)) return fail(e, "%s: found a sound, want a picture", path);
    return picture_read(p, path, e);
}

static bool read_sound(Sound *s, const char *path, Error *e)
{
    if (is_picture(path)) return fail(e, "%s: found a picture, want a sound", path);
    return sound_read(s, path, e);
}

/* A failure of the library, told of the file. */
static bool blame(const char *path, const Error *inner, Error *e)
{
    if (strstr(inner->text, "phrases: ") == inner->text) return fail(e, "%s", inner->text);
    return fail(e, "%s: %s", path, inner->text);
}

/* ---- plans ----------------------------------------------------------------------------------- */

static bool add_text(Texts *t, char *text, Error *e)
{
    const char **more = text ? realloc(t->at, (size_t)(t->count + 1) * sizeof *more) : NULL;
    if (!more) {
        free(text);
        return fail(e, "out of memory: needed room for a text");
    }
    t->at = more;
    t->at[t->count++] = text;
    return true;
}

/* All wordings of a bank's phrases. */
static bool add_wordings(Texts *t, const Bank *b, Error *e)
{
    bool ok = true;
    for (int i = 0; ok && i < b->count; i++)
        for (const char *at = b->at[i].query, *next; ok && at; at = next) {
            next = strstr(at, " / ");
            ok = add_text(t, next ? strndup(at, (size_t)(next - at)) : strdup(at), e);
            if (next) next += 3;
        }
    return ok;
}

/* What embedding the phrases of one model needs, for check the text and the drawn sentences too,
 * and a number of files. */
static bool plan_model(const Args *a, const Fusion *f, bool hears, int files, bool checks,
                       Stage stages[2], Error *e)
{
    const Reader r = { .hears = hears, .clip = f->clip, .clap = f->clap };
    Texts t = { 0 };
    bool ok = true;
    for (int b = hears ? SOUND : 0; ok && b < (hears ? BANKS : SLOTS); b++)
        ok = add_wordings(&t, &f->phrases.bank[b], e);
    checks = checks && a->prompt && f->phrases.bank[hears ? SOUND : SUBJECT].count;
    for (int k = 0; ok && checks && k < DRAWS; k++)
        ok = add_text(&t, drawn_sentence(&f->phrases, hears, k, text_language(a->prompt), e), e);
    if (ok && checks) ok = add_text(&t, strdup(a->prompt), e);
    ok = ok && reader_plan(&r, &t, (size_t)files, stages, e);
    stages[0].name = hears ? "sound phrases" : "picture phrases";
    for (int i = 0; i < t.count; i++) free((char *)t.at[i]);
    free(t.at);
    return ok;
}

/* Print the plan, or hold it against --max-mem. */
static bool plan_joining(const Args *a, const Fusion *f, int pictures, int sounds, bool checks,
                         Error *e)
{
    Stage stages[4];
    size_t need = 0;
    int n = 0;
    if (!a->plan && !a->max_mem) return true;
    if (f->sees && !plan_model(a, f, false, pictures, checks, stages, e)) return false;
    n += 2 * f->sees;
    if (f->hears && !plan_model(a, f, true, sounds, checks, stages + n, e)) return false;
    n += 2 * f->hears;
    for (int i = 0; i < n; i++) need = zmax(need, stages[i].memory);
    if (a->plan) print_plan(a, stages, n);
    return a->plan || check_memory(a, need, e);
}

/* ---- caption --------------------------------------------------------------------------------- */

/* The words of a phrase: as JSON, null where it says nothing; else as a field, its query then. */
static void print_words(const Args *a, const Phrase *p)
{
    const char *words = p->words[language(a)];
    if (a->json && words) print_json(words);
    else if (a->json) fputs("null", stdout);
    else print_field(words ? words : p->query);
}

static void print_caption(const Args *a, const char *file, const char *sentence)
{
    if (a->json) fputs("{\"file\": ", stdout);
    (a->json ? print_json : print_field)(file);
    fputs(a->json ? ", \"caption\": " : "\t", stdout);
    (a->json ? print_json : print_field)(sentence);
    if (!a->json) putchar('\n');
}

static void print_slot(const Args *a, const Fusion *f, const char *file, const Caption *c, int s)
{
    const int most = imin(a->top ? a->top : a->json ? 1 : 0, c->count[s]);
    for (int i = 0; i < most; i++) {
        const Ranked *r = &c->ranked[s][i];
        const Phrase *p = &f->phrases.bank[s].at[r->phrase];
        if (a->json) {
            fputs(i ? ", {\"words\": " : "{\"words\": ", stdout);
            print_words(a, p);
            fputs(", \"query\": ", stdout);
            print_json(p->query);
            printf(", \"probability\": %.9g, \"cosine\": %.9g, \"said\": %s}", r->probability,
                   r->cosine, !i && c->said[s] ? "true" : "false");
            continue;
        }
        print_field(file);
        printf("\t%s\t", bank_names[s]);
        print_words(a, p);
        printf("\t%.6f\t%.6f\n", r->probability, r->cosine);
    }
}

static bool tell_seen(const Args *a, Fusion *f, const char *path, Error *e)
{
    Picture p;
    Caption c;
    Error inner = { 0 };
    if (!picture_read(&p, path, e)) return false;
    const bool ok = caption_picture(f, &p, CONFIDENCE, &c, &inner) || blame(path, &inner, e);
    picture_free(&p);
    if (!ok) return false;
    print_caption(a, path, c.sentence[language(a)]);
    if (a->json) fputs(", \"slots\": {", stdout);
    for (int s = 0; s < SLOTS; s++) {
        if (a->json) printf("%s\"%s\": [", s ? ", " : "", bank_names[s]);
        print_slot(a, f, path, &c, s);
        if (a->json) putchar(']');
    }
    if (a->json) puts("}}");
    caption_free(&c);
    return true;
}

static void print_heard(const Args *a, const Fusion *f, const char *file, const Hearing *h, int i)
{
    const Heard *x = &h->heard[i];
    const Phrase *p = &f->phrases.bank[SOUND].at[x->phrase];
    if (a->json) {
        fputs(i ? ", {\"words\": " : "{\"words\": ", stdout);
        print_words(a, p);
        fputs(", \"query\": ", stdout);
        print_json(p->query);
        printf(", \"above\": %.9g, \"cosine\": %.9g, \"said\": %s}", x->above, x->cosine,
               x->said ? "true" : "false");
        return;
    }
    print_field(file);
    printf("\t%s\t", bank_names[SOUND]);
    print_words(a, p);
    printf("\t%.6f\t%.6f\n", x->above, x->cosine);
}

static bool tell_heard(const Args *a, Fusion *f, const char *path, Error *e)
{
    Sound s;
    Hearing h;
    Error inner = { 0 };
    if (!sound_read(&s, path, e)) return false;
    const bool ok = caption_sound(f, &s, HEARD_FROM, &h, &inner) || blame(path, &inner, e);
    sound_free(&s);
    if (!ok) return false;
    int most = a->top;
    while (a->json && !a->top && most < h.count && h.heard[most].said) most++;
    print_caption(a, path, h.sentence[language(a)]);
    if (a->json) fputs(", \"heard\": [", stdout);
    for (int i = 0; i < imin(most, h.count); i++) print_heard(a, f, path, &h, i);
    if (a->json) puts("]}");
    hearing_free(&h);
    return true;
}

int verb_caption(Args *a, Error *e)
{
    const Texts *files = &a->options->operands;
    int sounds = 0;
    Fusion f;
    for (int i = 0; i < files->count; i++) sounds += is_wav(files->at[i]);
    const int pictures = files->count - sounds;
    if (!fusion_begin(&f, a, pictures > 0, sounds > 0, e)) return 1;
    Trace *trace = NULL;
    bool ok = plan_joining(a, &f, pictures, sounds, false, e)
        && (a->plan || trace_begin(&trace, a, e));
    for (int i = 0; ok && !a->plan && i < files->count; i++)
        ok = (is_wav(files->at[i]) ? tell_heard : tell_seen)(a, &f, files->at[i], e);
    ok = trace_end(trace, ok, e);
    fusion_close(&f);
    return ok ? 0 : 1;
}

/* ---- check ----------------------------------------------------------------------------------- */

/* The pair that stands lowest. */
static int weakest(const Verdict *v)
{
    int at = -1;
    for (int i = 0; i < PAIRS; i++)
        if (v->pair[i].asked && (at < 0 || v->pair[i].percentile < v->pair[at].percentile)) at = i;
    return at;
}

/* The verdict in words, in out. */
static const char *verdict_words(const Verdict *v, Language l, char out[256])
{
    static const char *const pairs[LANGUAGES][PAIRS] = {
        { "text and picture", "text and sound", "picture and sound" },
        { "le texte et l'image", "le texte et le son", "l'image et le son" }
    };
    static const char *const forms[LANGUAGES][2] = {
        { "they do not agree: %s stand above only %.0f %% of the pairs that do not belong together",
          "they agree: on the mean they stand above %.0f %% of the pairs that do not belong "
          "together" },
        { "pas d'accord : %s ne dépassent que %.0f %% des paires qui ne vont pas ensemble",
          "d'accord : en moyenne, ils dépassent %.0f %% des paires qui ne vont pas ensemble" }
    };
    const int i = weakest(v);
    if (v->agree) snprintf(out, 256, forms[l][1], v->mean);
    else snprintf(out, 256, forms[l][0], pairs[l][i], v->pair[i].percentile);
    return out;
}

static void print_pair(const Args *a, int i, const Pair *p, bool first)
{
    if (!a->json)
        printf("%s\t%.6f\t%.1f\t%s\n", pair_names[i], p->score, p->percentile,
               p->agree ? "agree" : "do not agree");
    else
        printf("%s{\"pair\": \"%s\", \"cosine\": %.9g, \"percentile\": %.9g, \"among\": %d, "
               "\"by\": \"%s\", \"agree\": %s}", first ? "" : ", ", pair_names[i], p->score,
               p->percentile, p->among, p->by_bank ? "phrases" : "model",
               p->agree ? "true" : "false");
}

static void print_verdict(const Args *a, const Verdict *v)
{
    char words[256];
    bool first = true;
    verdict_words(v, language(a), words);
    if (a->json) fputs("{\"pairs\": [", stdout);
    for (int i = 0; i < PAIRS; i++) {
        if (!v->pair[i].asked) continue;
        print_pair(a, i, &v->pair[i], first);
        first = false;
    }
    if (!a->json) {
        printf("verdict\t%s\n", words);
        return;
    }
    printf("], \"mean\": %.9g, \"threshold\": %g, \"agree\": %s, \"verdict\": ", v->mean,
           a->threshold, v->agree ? "true" : "false");
    print_json(words);
    puts("}");
}

int verb_check(Args *a, Error *e)
{
    const bool text = a->prompt, sees = a->image, hears = a->audio;
    Fusion f;
    Picture p = { 0 };
    Sound s = { 0 };
    Verdict v;
    Trace *trace = NULL;
    if (text + sees + hears < 2)
        return misuse(e, "check: want two or three of -p TEXT, --image FILE, --audio FILE"), 2;
    bool ok = (!sees || read_picture(&p, a->image, e)) && (!hears || read_sound(&s, a->audio, e));
    const bool looks = sees || (ok && part_given(a, "clip", e));
    if (!ok || e->code || !fusion_begin(&f, a, looks, hears, e)) {
        picture_free(&p);
        sound_free(&s);
        return 1;
    }
    ok = plan_joining(a, &f, sees, hears, true, e)
        && (a->plan || (trace_begin(&trace, a, e)
                        && check_agree(&f, a->prompt, sees ? &p : NULL, hears ? &s : NULL,
                                       a->threshold, &v, e)));
    ok = trace_end(trace, ok, e);
    picture_free(&p);
    sound_free(&s);
    fusion_close(&f);
    if (!ok || a->plan) return ok ? 0 : 1;
    print_verdict(a, &v);
    return v.agree ? 0 : 3;
}

/* ---- soundscape ------------------------------------------------------------------------------ */

/* Give a layer to make to the options, as --layer would. */
static bool order_layer(Args *a, double gain_db, const char *prompt, Error *e)
{
    const size_t room = strlen(prompt) + 32;
    char *text = malloc(room);
    if (text) snprintf(text, room, "%g %s", gain_db, prompt);
    return add_text(&a->layers, text, e);
}

static bool order_layers(Args *a, const Fusion *f, const Soundscape *s, Error *e)
{
    bool ok = true;
    for (int i = 0; ok && i < s->count; i++) {
        const Layer *y = &s->layer[i];
        char *prompt = phrase_prompt(&f->phrases.bank[SOUND].at[y->sound], e);
        ok = prompt && order_layer(a, y->gain_db, prompt, e);
        free(prompt);
    }
    return ok;
}

static void print_choice(const Args *a, const Fusion *f, const Soundscape *s)
{
    const Language l = language(a);
    if (a->output && !strcmp(a->output, "-")) {
        say(a, "%s", s->reason[l]);
        return;
    }
    if (!a->json) {
        print_field(s->reason[l]);
        putchar('\n');
        return;
    }
    fputs("{\"picture\": ", stdout);
    print_json(a->options->operands.at[0]);
    fputs(", \"reason\": ", stdout);
    print_json(s->reason[l]);
    for (int i = 0; i < s->count; i++) {
        const Layer *y = &s->layer[i];
        fputs(i ? ", {\"sound\": " : ", \"layers\": [{\"sound\": ", stdout);
        print_words(a, &f->phrases.bank[SOUND].at[y->sound]);
        printf(", \"gain_db\": %g, \"score\": %.9g, \"slot\": \"%s\", \"because\": ", y->gain_db,
               y->score, bank_names[y->slot]);
        print_words(a, &f->phrases.bank[y->slot].at[y->phrase]);
        putchar('}');
    }
    puts("]}");
}

/* Look at the picture, choose its sounds, print them and order them. */
static bool choose_sounds(Args *a, Fusion *f, Picture *p, Error *e)
{
    Caption c = { 0 };
    Soundscape s = { 0 };
    Error inner = { 0 };
    const bool chosen = caption_picture(f, p, CONFIDENCE, &c, &inner)
        && soundscape_choose(f, &c, a->sounds, &s, &inner);
    const bool ok = (chosen || blame(a->options->operands.at[0], &inner, e))
        && order_layers(a, f, &s, e);
    if (ok) print_choice(a, f, &s);
    fflush(stdout);
    soundscape_free(&s);
    caption_free(&c);
    return ok;
}

/* Order what belongs to the picture; with --plan as many sounds as there may be. */
static bool order_soundscape(Args *a, Error *e)
{
    Picture p;
    Fusion f;
    if (!read_picture(&p, a->options->operands.at[0], e)) return false;
    bool ok = fusion_begin(&f, a, true, false, e);
    if (ok) {
        ok = plan_joining(a, &f, 1, 0, false, e) && (a->plan || choose_sounds(a, &f, &p, e));
        for (int i = 0; ok && a->plan && i < a->sounds; i++) ok = order_layer(a, 0, "-", e);
        fusion_close(&f);
    }
    picture_free(&p);
    return ok;
}

int verb_soundscape(Args *a, Error *e)
{
    const int given = a->layers.count;
    char *ordered[LAYERS_MOST] = { 0 };
    Plans plans = { .of = "CLIP" };
    a->batch = 1;
    a->plans = a->plan ? &plans : NULL;
    Trace *trace = NULL;
    bool ok = audio_ready(a, e) && (a->plan || trace_begin(&trace, a, e))
        && order_soundscape(a, e);
    plans.of = "AudioLDM";
    for (int i = given; i < a->layers.count; i++) ordered[i - given] = (char *)a->layers.at[i];
    a->trace = NULL;                                       /* it goes on in this one */
    ok = ok && make_audio(a, false, e);
    ok = trace_end(trace, ok, e);
    a->plans = NULL;
    if (ok && a->plan) print_plan(a, plans.stages, plans.count);
    for (int i = 0; i < LAYERS_MOST; i++) free(ordered[i]);
    return ok ? 0 : 1;
}
