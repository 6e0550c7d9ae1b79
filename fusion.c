/* fusion.c - captions, soundscapes and agreement of text, picture and sound, by phrase banks.
 * Read in this order: the models, ranking, sentences, captions, soundscapes, agreement. */
#include "fusion.h"

#include <math.h>
#include <stdlib.h>

const char *const pair_names[PAIRS] = { "text-picture", "text-sound", "picture-sound" };

enum { SCENES = 4096, BY_CLIP = 0, BY_CLAP = 1 };

/* A sound belongs in a soundscape where its score reaches this share of the best one's. */
static const double LAYER_FROM = 0.4;

static bool no_memory(Error *e, const char *what)
{
    return fail(e, "out of memory: needed room for %s", what);
}

/* ---- the models ------------------------------------------------------------------------------ */

bool fusion_open(Fusion *f, const char *clip, const char *clap, const char *tokenizer,
                 const char *scratch, Error *e)
{
    *f = (Fusion){ 0 };
    bool ok = !clip || (f->sees = clip_open(&f->clip, clip, tokenizer, e));
    ok = ok && (!clap || (f->hears = clap_open(&f->clap, clap, tokenizer, e)));
    const size_t sight = f->sees ? clip_memory(&f->clip) : 0,
                 hearing = f->hears ? clap_memory(&f->clap) : 0;
    ok = ok && arena_open(&f->m, zmax(sight, hearing), scratch, e);
    if (!ok) fusion_close(f);
    return ok;
}

void fusion_close(Fusion *f)
{
    phrases_free(&f->phrases);
    for (int l = 0; l < LANGUAGES; l++) {
        free(f->drawn[BY_CLIP][l]);
        free(f->drawn[BY_CLAP][l]);
    }
    arena_close(&f->m);
    if (f->sees) clip_close(&f->clip);
    if (f->hears) clap_close(&f->clap);
    *f = (Fusion){ 0 };
}

static int model_dim(const Fusion *f, int model)
{
    return model == BY_CLIP ? f->clip.dim : f->clap.dim;
}

/* Traces name every text of a run: clip.text0, clip.text1, ... */
static bool embed_text(Fusion *f, int model, const char *text, float *out, Error *e)
{
    trace_enter(model == BY_CLIP ? "clip.text%d" : "clap.text%d", f->texts[model]++);
    const bool ok = model == BY_CLIP ? clip_embed_text(&f->clip, &f->m, text, out, NULL, e)
                                     : clap_embed_text(&f->clap, &f->m, text, out, NULL, e);
    trace_leave();
    return ok;
}

static bool embed_picture(Fusion *f, Picture *p, float *out, Error *e)
{
    trace_enter("clip.picture%d", f->pictures++);
    const bool ok = clip_embed_picture(&f->clip, &f->m, p, out, e);
    trace_leave();
    return ok;
}

static bool embed_sound(Fusion *f, const Sound *s, float *out, Error *e)
{
    trace_enter("clap.sound%d", f->sounds++);
    const bool ok = clap_embed_sound(&f->clap, &f->m, s, out, e);
    trace_leave();
    return ok;
}

/* One wording: its embedding as it is.  Several: the sum of theirs, each divided by its length. */
static bool embed_query(Fusion *f, int model, const char *query, float *out, Error *e)
{
    const size_t dim = (size_t)model_dim(f, model);
    if (!strstr(query, " / ")) return embed_text(f, model, query, out, e);
    float *one = malloc(dim * sizeof *one);
    char *text = strdup(query);
    bool ok = (one && text) || no_memory(e, "a phrase");
    for (size_t k = 0; ok && k < dim; k++) out[k] = 0;
    for (char *at = text, *next; ok && at; at = next) {
        next = strstr(at, " / ");
        if (next) {
            *next = 0;
            next += 3;
        }
        ok = embed_text(f, model, at, one, e);
        if (ok) normalize(one, (int)dim);
        for (size_t k = 0; ok && k < dim; k++) out[k] += one[k];
    }
    free(one);
    free(text);
    return ok;
}

static bool embed_bank(Fusion *f, int model, Bank *b, Error *e)
{
    const size_t dim = (size_t)model_dim(f, model);
    if (b->vectors || !b->count) return true;
    float *vectors = calloc((size_t)b->count * dim, sizeof *vectors);
    bool ok = vectors || no_memory(e, "phrases");
    for (int i = 0; ok && i < b->count; i++)
        ok = embed_query(f, model, b->at[i].query, vectors + (size_t)i * dim, e);
    if (ok) b->vectors = vectors;
    else free(vectors);
    return ok;
}

bool fusion_see_phrases(Fusion *f, Error *e)
{
    if (!f->sees) return fail(e, "fusion: no CLIP model is open, want one for pictures");
    if (!f->phrases.bank[SUBJECT].count)
        return fail(e, "phrases: no phrases for pictures, want lines in a section [subject]");
    bool ok = true;
    for (int s = 0; ok && s < SLOTS; s++) ok = embed_bank(f, BY_CLIP, &f->phrases.bank[s], e);
    return ok;
}

bool fusion_hear_phrases(Fusion *f, Error *e)
{
    if (!f->hears) return fail(e, "fusion: no CLAP model is open, want one for sounds");
    if (!f->phrases.bank[SOUND].count)
        return fail(e, "phrases: no phrases for sounds, want lines in a section [sound]");
    return embed_bank(f, BY_CLAP, &f->phrases.bank[SOUND], e);
}

/* ---- ranking --------------------------------------------------------------------------------- */

static const float *vector_of(const Bank *b, int phrase, int dim)
{
    return b->vectors + (size_t)phrase * (size_t)dim;
}

/* The phrases of a bank by their cosine with x, best first, equal ones as they stand. */
static Ranked *rank_bank(const Bank *b, const float *x, int dim, Error *e)
{
    Ranked *ranked = calloc((size_t)b->count + 1, sizeof *ranked);
    if (!ranked) no_memory(e, "scores");
    for (int i = 0; ranked && i < b->count; i++) {
        const Ranked new = { .phrase = i, .cosine = cosine(vector_of(b, i, dim), x, dim) };
        int at = i;
        for (; at > 0 && ranked[at - 1].cosine < new.cosine; at--) ranked[at] = ranked[at - 1];
        ranked[at] = new;
    }
    return ranked;
}

/* softmax(scale * cosine) over the n of a slot. */
static bool set_probabilities(Ranked *ranked, int n, double scale, Error *e)
{
    double *x = malloc(2 * (size_t)(n + 1) * sizeof *x);
    if (!x) return no_memory(e, "scores");
    for (int i = 0; i < n; i++) x[i] = scale * ranked[i].cosine;
    if (n) softmax(x, n, x + n);
    for (int i = 0; i < n; i++) ranked[i].probability = x[n + i];
    free(x);
    return true;
}

/* ---- sentences ------------------------------------------------------------------------------- */

/* The first letter as a capital: ASCII, and what French puts first (U+00E0..U+00FE, oe). */
static void capitalize(char *text)
{
    unsigned char *c = (unsigned char *)text;
    if (c[0] >= 'a' && c[0] <= 'z') c[0] -= 'a' - 'A';
    else if (c[0] == 0xc3 && c[1] >= 0xa0 && c[1] <= 0xbe && c[1] != 0xb7) c[1] -= 0x20;
    else if (c[0] == 0xc5 && c[1] == 0x93) c[1] = 0x92;
}

/* Close a text that was written to memory; NULL with e when it did not fit. */
static char *finish(FILE *out, char **text, Error *e)
{
    if (out && !fclose(out)) return *text;
    if (out) free(*text);
    no_memory(e, "a sentence");
    return NULL;
}

/* "A cabin in the woods, in the snow, at night." of one phrase a slot, -1 for none. */
static char *compose(const Phrases *p, const int phrase[SLOTS], Language l, Error *e)
{
    char *text = NULL;
    size_t size;
    bool begun = false;
    FILE *out = open_memstream(&text, &size);
    for (int s = 0; out && s < SLOTS; s++) {
        const char *words = phrase[s] < 0 ? NULL : p->bank[s].at[phrase[s]].words[l];
        if (!words) continue;
        fprintf(out, "%s%s", !begun ? "" : s == PLACE ? " " : ", ", words);
        begun = true;
    }
    if (out) fputc('.', out);
    text = finish(out, &text, e);
    if (text) capitalize(text);
    return text;
}

/* ---- captions -------------------------------------------------------------------------------- */

void caption_free(Caption *c)
{
    for (int s = 0; s < SLOTS; s++) free(c->ranked[s]);
    for (int l = 0; l < LANGUAGES; l++) free(c->sentence[l]);
    *c = (Caption){ 0 };
}

/* The phrase that a caption says in each slot, or -1. */
static void said_phrases(const Caption *c, int phrase[SLOTS])
{
    for (int s = 0; s < SLOTS; s++) phrase[s] = c->said[s] ? c->ranked[s][0].phrase : -1;
}

bool caption_vector(Fusion *f, const float *picture, double confidence, Caption *out, Error *e)
{
    const Phrases *p = &f->phrases;
    int phrase[SLOTS];
    *out = (Caption){ 0 };
    bool ok = fusion_see_phrases(f, e);
    for (int s = 0; ok && s < SLOTS; s++) {
        const Bank *b = &p->bank[s];
        out->ranked[s] = rank_bank(b, picture, f->clip.dim, e);
        out->count[s] = b->count;
        ok = out->ranked[s]
            && set_probabilities(out->ranked[s], b->count, f->clip.logit_scale, e);
        if (!ok || !b->count) continue;
        const Ranked *best = out->ranked[s];
        out->said[s] = b->at[best->phrase].words[ENGLISH]
            && (s == SUBJECT || best->probability >= confidence);
    }
    if (ok) said_phrases(out, phrase);
    for (int l = 0; ok && l < LANGUAGES; l++)
        ok = (out->sentence[l] = compose(p, phrase, (Language)l, e)) != NULL;
    if (!ok) caption_free(out);
    return ok;
}

bool caption_picture(Fusion *f, Picture *p, double confidence, Caption *out, Error *e)
{
    *out = (Caption){ 0 };
    if (!fusion_see_phrases(f, e)) return false;
    float *vector = malloc((size_t)f->clip.dim * sizeof *vector);
    const bool ok = (vector || no_memory(e, "an embedding"))
        && embed_picture(f, p, vector, e)
        && caption_vector(f, vector, confidence, out, e);
    free(vector);
    return ok;
}

void hearing_free(Hearing *h)
{
    free(h->heard);
    for (int l = 0; l < LANGUAGES; l++) free(h->sentence[l]);
    *h = (Hearing){ 0 };
}

/* How far each cosine stands from the mean of all, in standard deviations. */
static void set_above(Heard *h, int n)
{
    double sum = 0, squares = 0;
    for (int i = 0; i < n; i++) sum += h[i].cosine;
    const double mean = sum / n;
    for (int i = 0; i < n; i++) squares += (h[i].cosine - mean) * (h[i].cosine - mean);
    const double deviation = sqrt(squares / n);
    for (int i = 0; i < n; i++) h[i].above = deviation > 0 ? (h[i].cosine - mean) / deviation : 0;
}

/* "[Rain, a dog barking]" */
static char *compose_heard(const Bank *b, const Hearing *h, Language l, Error *e)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    for (int i = 0; out && i < h->count && h->heard[i].said; i++)
        fprintf(out, "%s%s", i ? ", " : "[", b->at[h->heard[i].phrase].words[l]);
    if (out) fputc(']', out);
    text = finish(out, &text, e);
    if (text) capitalize(text + 1);
    return text;
}

bool hearing_vector(Fusion *f, const float *sound, double above, Hearing *out, Error *e)
{
    const Bank *b = &f->phrases.bank[SOUND];
    *out = (Hearing){ 0 };
    if (!fusion_hear_phrases(f, e)) return false;
    Ranked *ranked = rank_bank(b, sound, f->clap.dim, e);
    out->heard = calloc((size_t)b->count, sizeof *out->heard);
    bool ok = ranked && (out->heard || no_memory(e, "scores"));
    out->count = b->count;
    for (int i = 0; ok && i < b->count; i++)
        out->heard[i] = (Heard){ .phrase = ranked[i].phrase, .cosine = ranked[i].cosine };
    free(ranked);
    if (ok) set_above(out->heard, out->count);
    for (int i = 0; ok && i < imin(out->count, HEARD_MOST); i++)
        out->heard[i].said = !i || out->heard[i].above >= above;
    for (int l = 0; ok && l < LANGUAGES; l++)
        ok = (out->sentence[l] = compose_heard(b, out, (Language)l, e)) != NULL;
    if (!ok) hearing_free(out);
    return ok;
}

bool caption_sound(Fusion *f, const Sound *s, double above, Hearing *out, Error *e)
{
    *out = (Hearing){ 0 };
    if (!fusion_hear_phrases(f, e)) return false;
    float *vector = malloc((size_t)f->clap.dim * sizeof *vector);
    const bool ok = (vector || no_memory(e, "an embedding"))
        && embed_sound(f, s, vector, e)
        && hearing_vector(f, vector, above, out, e);
    free(vector);
    return ok;
}

/* ---- soundscapes ----------------------------------------------------------------------------- */

void soundscape_free(Soundscape *s)
{
    for (int l = 0; l < LANGUAGES; l++) free(s->reason[l]);
    *s = (Soundscape){ 0 };
}

static double probability_of(const Caption *c, int slot, int phrase)
{
    for (int i = 0; i < c->count[slot]; i++)
        if (c->ranked[slot][i].phrase == phrase) return c->ranked[slot][i].probability;
    return 0;
}

/* Put a layer in its place among those chosen; a sound stands once, with its best reason. */
static void place_layer(Soundscape *s, Layer new, int most)
{
    int at = 0;
    while (at < s->count && s->layer[at].sound != new.sound) at++;
    if (at < s->count) {
        if (s->layer[at].score >= new.score) return;
    } else if (s->count < most) s->count++;
    else if (s->layer[--at].score >= new.score) return;
    for (; at > 0 && s->layer[at - 1].score < new.score; at--) s->layer[at] = s->layer[at - 1];
    s->layer[at] = new;
}

/* "; softly, " before what is not among the loudest. */
static const char *loudness(double gain_db, Language l)
{
    static const char *const softly[] = { "softly, ", "doucement, " }, *const far[] = {
        "far off, ", "au loin, " };
    return gain_db >= -4 ? "" : gain_db >= -10 ? softly[l] : far[l];
}

static char *compose_reason(const Phrases *p, const Caption *c, const Soundscape *s, Language l,
                            Error *e)
{
    static const char *const hear[] = { "You hear: ", "On entend : " };
    static const char *const between[] = { "; ", " ; " };
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (out) fprintf(out, "%s %s", c->sentence[l], hear[l]);
    for (int i = 0; out && i < s->count; i++) {
        const Layer *y = &s->layer[i];
        const char *why = p->bank[y->slot].at[y->phrase].words[l];
        fprintf(out, "%s%s%s", i ? between[l] : "", loudness(y->gain_db, l),
                p->bank[SOUND].at[y->sound].words[l]);
        if (why) fprintf(out, " (%s)", why);
    }
    if (out) fputc('.', out);
    return finish(out, &text, e);
}

bool soundscape_choose(const Fusion *f, const Caption *c, int most, Soundscape *out, Error *e)
{
    const Phrases *p = &f->phrases;
    *out = (Soundscape){ 0 };
    if (!p->belongs_count)
        return fail(e, "phrases: no sounds for pictures, want lines in a section [soundscape]");
    most = imin(most, LAYERS_MOST);
    for (int i = 0; i < p->belongs_count; i++) {
        const Belongs *b = &p->belongs[i];
        const double score = probability_of(c, b->slot, b->phrase) * f_pow(10, b->gain_db / 20);
        place_layer(out, (Layer){ b->sound, b->slot, b->phrase, b->gain_db, score }, most);
    }
    while (out->count > 1 && out->layer[out->count - 1].score < LAYER_FROM * out->layer[0].score)
        out->count--;
    for (int l = 0; l < LANGUAGES; l++)
        if (!(out->reason[l] = compose_reason(p, c, out, (Language)l, e))) {
            soundscape_free(out);
            return false;
        }
    return true;
}

/* ---- agreement: drawn sentences -------------------------------------------------------------- */

/* The k-th of a fixed sequence of whole numbers below n. (splitmix64) */
static int drawn_number(uint64_t k, int n)
{
    uint64_t x = (k + 1) * 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return (int)((x ^ x >> 31) % (uint64_t)n);
}

/* Scene k: a subject, a place in half of them, each other slot in a quarter. */
static void draw_scene(const Phrases *p, int k, int phrase[SLOTS])
{
    for (int s = 0; s < SLOTS; s++) {
        const uint64_t number = 2 * ((uint64_t)k * SLOTS + (uint64_t)s);
        const int one_in = s == SUBJECT ? 1 : s == PLACE ? 2 : 4;
        phrase[s] = p->bank[s].count && !drawn_number(number, one_in)
            ? drawn_number(number + 1, p->bank[s].count) : -1;
    }
}

/* Heard k: one sound, or every other time two. */
static void draw_sounds(const Phrases *p, int k, int sound[2])
{
    const int n = p->bank[SOUND].count;
    sound[0] = drawn_number(2 * (uint64_t)k, n);
    sound[1] = k % 2 ? drawn_number(2 * (uint64_t)k + 1, n) : sound[0];
}

char *drawn_sentence(const Phrases *p, bool of_sounds, int k, Language l, Error *e)
{
    static const char *const and[] = { " and ", " et " };
    int phrase[SLOTS], sound[2];
    char *text = NULL;
    size_t size;
    if (!of_sounds) {
        draw_scene(p, k, phrase);
        return compose(p, phrase, l, e);
    }
    draw_sounds(p, k, sound);
    FILE *out = open_memstream(&text, &size);
    if (out) fputs(p->bank[SOUND].at[sound[0]].words[l], out);
    if (out && sound[1] != sound[0])
        fprintf(out, "%s%s", and[l], p->bank[SOUND].at[sound[1]].words[l]);
    if (out) fputc('.', out);
    text = finish(out, &text, e);
    if (text) capitalize(text);
    return text;
}

static bool embed_draws(Fusion *f, int model, Language l, Error *e)
{
    const size_t dim = (size_t)model_dim(f, model);
    if (f->drawn[model][l]) return true;
    float *vectors = calloc(DRAWS * dim, sizeof *vectors);
    bool ok = vectors || no_memory(e, "drawn sentences");
    for (int k = 0; ok && k < DRAWS; k++) {
        char *text = drawn_sentence(&f->phrases, model == BY_CLAP, k, l, e);
        ok = text && embed_text(f, model, text, vectors + (size_t)k * dim, e);
        free(text);
    }
    if (ok) f->drawn[model][l] = vectors;
    else free(vectors);
    return ok;
}

/* ---- agreement: pairs ------------------------------------------------------------------------ */

/* Count one more wrong pair; below holds twice how many stand below, equal ones half. */
static void compare_pair(Pair *pair, double wrong)
{
    pair->percentile += wrong < pair->score ? 1 : wrong > pair->score ? 0 : 0.5;
    pair->among++;
}

static void close_pair(Pair *pair)
{
    pair->percentile = pair->among ? 100 * pair->percentile / pair->among : 0;
}

static int nearest(const Bank *b, const float *x, int dim)
{
    int best = 0;
    double highest = -2;
    for (int i = 0; i < b->count; i++) {
        const double score = cosine(vector_of(b, i, dim), x, dim);
        if (score > highest) highest = score, best = i;
    }
    return best;
}

/* A text and a picture or sound, among the drawn sentences whose subject or sound is another than
 * the text's. */
static bool judge_text(Fusion *f, int model, Language l, const float *text, const float *thing,
                       Pair *pair, Error *e)
{
    const int dim = model_dim(f, model);
    const Phrases *p = &f->phrases;
    if (!(model == BY_CLIP ? fusion_see_phrases : fusion_hear_phrases)(f, e)
        || !embed_draws(f, model, l, e)) return false;
    const int own = nearest(&p->bank[model == BY_CLIP ? SUBJECT : SOUND], text, dim);
    *pair = (Pair){ .asked = true, .score = cosine(text, thing, dim) };
    for (int k = 0; k < DRAWS; k++) {
        int phrase[SLOTS] = { 0 }, sound[2] = { 0 };
        if (model == BY_CLIP) draw_scene(p, k, phrase);
        else draw_sounds(p, k, sound);
        if (model == BY_CLIP ? phrase[SUBJECT] == own : sound[0] == own || sound[1] == own)
            continue;
        compare_pair(pair, cosine(f->drawn[model][l] + (size_t)k * (size_t)dim, thing, dim));
    }
    close_pair(pair);
    return true;
}

/* Of the sounds that belong to the phrases, the one heard best: its cosine; -2 where none do, or
 * where one of them is in `without`. marked, if not NULL, receives which they are. */
static double heard_of(const Phrases *p, const int phrase[SLOTS], const double *cosines,
                       const bool *without, bool *marked)
{
    double best = -2;
    for (int i = 0; i < p->belongs_count; i++) {
        const Belongs *b = &p->belongs[i];
        if (phrase[b->slot] != b->phrase) continue;
        if (without && without[b->sound]) return -2;
        if (marked) marked[b->sound] = true;
        best = fmax(best, cosines[b->sound]);
    }
    return best;
}

/* The phrases that a picture or a text means; where no sound belongs to them, in each slot the best
 * to which one does. */
static void meant_phrases(const Phrases *p, const Caption *c, int phrase[SLOTS])
{
    said_phrases(c, phrase);
    for (int i = 0; i < p->belongs_count; i++)
        if (phrase[p->belongs[i].slot] == p->belongs[i].phrase) return;
    for (int s = 0; s < SLOTS; s++) {
        double best = -1;
        phrase[s] = -1;
        for (int i = 0; i < p->belongs_count; i++) {
            const Belongs *b = &p->belongs[i];
            const double probability = b->slot == s ? probability_of(c, s, b->phrase) : -1;
            if (probability > best) best = probability, phrase[s] = b->phrase;
        }
    }
}

/* Scene k: the same slots filled by fixed draws. */
static void redraw(const Phrases *p, int k, const int like[SLOTS], int phrase[SLOTS])
{
    for (int s = 0; s < SLOTS; s++)
        phrase[s] = like[s] < 0 ? -1
                                : drawn_number((uint64_t)k * SLOTS + (uint64_t)s, p->bank[s].count);
}

/* What a picture or text means (its embedding by CLIP) and a sound: the sound that belongs to it
 * and is heard best, among scenes drawn with none of its sounds. */
static bool judge_by_bank(Fusion *f, const float *meaning, const float *sound, Pair *pair,
                          Error *e)
{
    const Phrases *p = &f->phrases;
    const Bank *sounds = &p->bank[SOUND];
    Caption c;
    int meant[SLOTS], phrase[SLOTS];
    *pair = (Pair){ .asked = true, .by_bank = true };
    if (!fusion_hear_phrases(f, e) || !caption_vector(f, meaning, CONFIDENCE, &c, e)) return false;
    double *cosines = calloc((size_t)sounds->count, sizeof *cosines);
    bool *own = calloc((size_t)sounds->count, sizeof *own), ok = cosines && own;
    if (!ok) no_memory(e, "scores");
    for (int i = 0; ok && i < sounds->count; i++)
        cosines[i] = cosine(vector_of(sounds, i, f->clap.dim), sound, f->clap.dim);
    if (ok && !p->belongs_count)
        ok = fail(e, "phrases: no sounds for pictures, want lines in a section [soundscape]");
    if (ok) {
        meant_phrases(p, &c, meant);
        pair->score = heard_of(p, meant, cosines, NULL, own);
    }
    for (int k = 0; ok && k < SCENES; k++) {
        redraw(p, k, meant, phrase);
        const double wrong = heard_of(p, phrase, cosines, own, NULL);
        if (wrong >= -1.5) compare_pair(pair, wrong);
    }
    close_pair(pair);
    free(cosines);
    free(own);
    caption_free(&c);
    return ok;
}

/* ---- agreement ------------------------------------------------------------------------------- */

Language text_language(const char *text)
{
    static const char *const little[LANGUAGES] = {
        " a an the of in on at by with and under near its some into ",
        " un une le la les l de du des d au aux dans en sur sous avec et près qui son "
    };
    int votes[LANGUAGES] = { 0 };
    for (const char *at = text; *at;) {
        char word[16];
        const size_t n = strcspn(at, " \t\n'.,;:!?\"()-");
        if (n && n < sizeof word - 2) {
            snprintf(word, sizeof word, " %.*s ", (int)n, at);
            if (word[1] >= 'A' && word[1] <= 'Z') word[1] += 'a' - 'A';
            for (int l = 0; l < LANGUAGES; l++) votes[l] += strstr(little[l], word) != NULL;
        }
        at += n + (at[n] != 0);
    }
    return votes[FRENCH] > votes[ENGLISH] ? FRENCH : ENGLISH;
}

/* A text and a sound: by CLAP, or, where that stands higher and CLIP is there, by what the text
 * means. */
static bool judge_text_sound(Fusion *f, Language l, const float *by_clip, const float *by_clap,
                             const float *sound, Pair *pair, Error *e)
{
    Pair other;
    if (!judge_text(f, BY_CLAP, l, by_clap, sound, pair, e)) return false;
    if (!f->sees || !f->phrases.belongs_count) return true;
    if (!judge_by_bank(f, by_clip, sound, &other, e)) return false;
    if (other.percentile > pair->percentile) *pair = other;
    return true;
}

typedef struct { float *text_clip, *text_clap, *picture, *sound; } Vectors;

static bool embed_all(Fusion *f, const char *text, Picture *p, const Sound *s, Vectors *v, Error *e)
{
    if (text && f->sees && !embed_text(f, BY_CLIP, text, v->text_clip, e)) return false;
    if (text && f->hears && s && !embed_text(f, BY_CLAP, text, v->text_clap, e)) return false;
    if (p && !embed_picture(f, p, v->picture, e)) return false;
    return !s || embed_sound(f, s, v->sound, e);
}

bool check_agree(Fusion *f, const char *text, Picture *p, const Sound *s, double from,
                 Verdict *out, Error *e)
{
    const size_t n = (size_t)f->clip.dim, m = (size_t)f->clap.dim;
    *out = (Verdict){ 0 };
    if (!text + !p + !s > 1) return fail(e, "check: found one thing, want two or three to compare");
    if ((p && !f->sees) || (s && !f->hears))
        return fail(e, "check: no %s model is open, want one for the %s", s && !f->hears ? "CLAP"
                    : "CLIP", s && !f->hears ? "sound" : "picture");
    float *room = calloc(2 * n + 2 * m + 1, sizeof *room);
    if (!room) return no_memory(e, "embeddings");
    Vectors v = { room, room + 2 * n, room + n, room + 2 * n + m };
    const Language l = text ? text_language(text) : ENGLISH;
    Pair *pair = out->pair;
    double sum = 0;
    int asked = 0;
    bool ok = embed_all(f, text, p, s, &v, e);
    if (ok && text && p)
        ok = judge_text(f, BY_CLIP, l, v.text_clip, v.picture, &pair[TEXT_PICTURE], e);
    if (ok && text && s)
        ok = judge_text_sound(f, l, v.text_clip, v.text_clap, v.sound, &pair[TEXT_SOUND], e);
    if (ok && p && s) ok = judge_by_bank(f, v.picture, v.sound, &pair[PICTURE_SOUND], e);
    for (int i = 0; i < PAIRS; i++) {
        pair[i].agree = pair[i].asked && pair[i].percentile >= from;
        sum += pair[i].asked ? pair[i].percentile : 0;
        asked += pair[i].asked;
    }
    out->mean = sum / imax(1, asked);
    out->agree = out->mean >= from;
    free(room);
    return ok;
}
