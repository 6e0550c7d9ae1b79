/* views.c - what can be seen of a run beside its picture.  Manual: views.h.
 * Read in this order: names, previews, sheets, maps, the run. */
#include "views.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

enum { FILM_SIDE = 128, SHEET_SIDE = 256, SIDE_MOST = 32768 };     /* pixels */

/* ---- names ----------------------------------------------------------------------------------- */

/* A name that files are written to; counts: each picture of a batch has its own. */
static bool check_view(const Args *a, const char *option, const char *name, const char *endings,
                       bool counts, Error *e)
{
    Args one = *a;
    if (!name) return true;
    if (!strcmp(name, "-"))
        return misuse(e, "--%s: found '-', want a file: standard output is for the picture",
                      option);
    if (!counts) one.batch = 1;
    return check_names(&one, option, name, endings, e) && (a->plan || check_outputs(a, name, e));
}

static bool check_maps(const Args *a, Error *e)
{
    bool ok = true, counts = false;
    for (int i = 0; ok && i < a->batch; i++) {
        char *folder = numbered(a->heatmap, i, e);
        const bool there = folder && folder_exists(folder);
        if (folder && !i) counts = strcmp(folder, a->heatmap) != 0;
        if (a->batch > 1 && folder && !counts)
            misuse(e, "--heatmap: found '%s', want %%d in it, as maps-%%d", a->heatmap);
        else if (folder && !there && path_taken(folder))
            fail(e, "%s: cannot write: it is no folder", folder);
        char *name = !folder ? NULL : there ? path_join(folder, "01.png") : strdup(folder);
        Output *o = name && !e->code && !a->plan ? output_open(name, e) : NULL;
        output_discard(o);
        free(name);
        free(folder);
        ok = !e->code;
    }
    return ok;
}

bool views_check(const Args *a, Error *e)
{
    const struct { const char *option, *name; } files[] = {
        { "film", a->film }, { "contact-sheet", a->sheet }, { "output", a->output },
        { "preview", a->preview } };
    for (size_t i = 0; i < 2; i++)
        for (size_t j = i + 1; j < countof(files); j++)
            if (files[i].name && files[j].name && !strcmp(files[i].name, files[j].name))
                return misuse(e, "--%s: found '%s', the name of --%s too", files[i].option,
                              files[i].name, files[j].option);
    if (a->sheet && !a->each && !a->grid.rows && !opt_given(a->options, "batch-count"))
        return misuse(e, "--contact-sheet: of no use without -b, --prompt-file, --each-steps or "
                      "--each-guidance");
    if (a->preview_vae && !a->preview && !a->film)
        return misuse(e, "--preview-vae: of no use without --preview or --film");
    if (a->heatmap && a->prompt_embeds)
        return misuse(e, "--heatmap: of no use with --prompt-embeds: there are no words");
    return check_view(a, "preview", a->preview, PICTURE_NAMES, false, e)
        && check_view(a, "film", a->film, ".png", true, e)
        && check_view(a, "contact-sheet", a->sheet, ".png", false, e)
        && (!a->heatmap || check_maps(a, e));
}

/* Begin a picture with a few texts, written but not committed. */
static Output *write_view(const Args *a, const char *name, const Picture *p, const char *word,
                          const char *share, Error *e)
{
    const char *texts[9] = { "Software", "fusion " VERSION };
    int n = 2;
    if (a->prompt) texts[n++] = "prompt", texts[n++] = a->prompt;
    if (word) texts[n++] = "word", texts[n++] = word, texts[n++] = "share", texts[n++] = share;
    Output *o = output_open(name, e);
    if (!o) return NULL;
    if ((ends_with(name, ".ppm") ? ppm_write : png_write)(o, p->w, p->h, p->rgb, texts, e))
        return o;
    output_discard(o);
    return NULL;
}

static bool save_view(const Args *a, const char *name, const Picture *p, Error *e)
{
    Output *o = write_view(a, name, p, NULL, NULL, e);
    return o && output_commit(o, e);
}

/* ---- previews -------------------------------------------------------------------------------- */

static bool needs_colours(const Views *v) { return v->a->preview || v->a->film; }

/* The picture of clean latents [C][h][w] by v->vae, [1,H,W,3] in -1..1; x0 NULL: count. */
static Tensor decode(const Views *v, Arena *m, const float *x0)
{
    const size_t n = (size_t)v->w * (size_t)v->h;
    Tensor z = tensor(m, 1, v->h, v->w, v->vae.latents);
    if (m->base) channels_last(x0, (size_t)v->vae.latents, n, z.at);
    for (size_t i = 0; m->base && i < tensor_count(z); i++) z.at[i] /= (float)v->vae.scaling;
    host_wrote(z);
    return vae_decode(m, &v->vae, z);
}

bool views_stage(const Views *v, size_t held, Stage *s)
{
    Arena m = { 0 };
    if (!needs_colours(v)) return false;
    if (v->a->preview_vae) decode(v, &m, NULL);
    else vae_colours(&m, &v->sd->vae, NULL);
    *s = (Stage){ "preview", m.peak, m.macs, m.weight_bytes };
    if (!v->a->preview_vae) return true;
    s->memory += held;
    s->macs *= (double)v->a->steps * imax(v->a->batch, v->a->candidates);
    return true;
}

bool views_start(Views *v, Error *e)
{
    Stage need;
    Arena m = { 0 };
    const size_t n = 3 * (1 + (size_t)v->sd->vae.latents);
    if (!views_stage(v, 0, &need)) return true;
    if (v->a->preview_vae) return arena_open(&v->m, need.memory, NULL, e);
    v->colours = malloc(n * sizeof *v->colours);
    if (!v->colours) return fail(e, "--preview: out of memory: needed room for %zu numbers", n);
    if (!arena_open(&m, need.memory, v->a->scratch, e)) return false;
    vae_colours(&m, &v->sd->vae, v->colours);
    arena_close(&m);
    return true;
}

/* -1..1 to 0..255; what is no number is black. */
static uint8_t level(double x)
{
    const double v = (x + 1) * 127.5 + 0.5;
    return v >= 255 ? 255 : v > 0 ? (uint8_t)v : 0;
}

/* The same by another VAE. */
static bool decoded(Views *v, const float *x0, int w, int h, Picture *p, Error *e)
{
    v->m.used = 0;
    v->m.wrap = v->a->tiling;
    const Tensor rgb = decode(v, &v->m, x0);
    if (!picture_make(p, (uint64_t)rgb.w, (uint64_t)rgb.h, "--preview", e)) return false;
    host_reads(rgb);
    for (size_t i = 0; i < tensor_count(rgb); i++) p->rgb[i] = level(rgb.at[i]);
    return picture_resize(p, w, h, BICUBIC, e);
}

/* The picture that clean latents [C][h][w] promise, w x h. */
static bool promise(Views *v, const float *x0, int w, int h, Picture *p, Error *e)
{
    const size_t n = (size_t)v->w * (size_t)v->h;
    *p = (Picture){ 0 };
    if (v->a->preview_vae) return decoded(v, x0, w, h, p, e);
    if (!picture_make(p, (uint64_t)v->w, (uint64_t)v->h, "--preview", e)) return false;
    for (size_t i = 0; i < 3 * n; i++) {
        double sum = v->colours[i % 3];
        for (size_t c = 0; c < (size_t)v->sd->vae.latents; c++)
            sum += (double)v->colours[3 * (c + 1) + i % 3] * x0[c * n + i / 3];
        p->rgb[i] = level(sum);
    }
    return picture_resize(p, w, h, BICUBIC, e);
}

/* ---- sheets ---------------------------------------------------------------------------------- */

/* Room for count pictures of w x h, each at most `side` long; columns 0: as many as fit. */
static bool sheet_open(Sheet *s, int count, int w, int h, int side, int columns, const char *where,
                       Error *e)
{
    const double by = side < imax(w, h) ? (double)side / imax(w, h) : 1;
    *s = (Sheet){ .w = imax(1, (int)(w * by + 0.5)), .h = imax(1, (int)(h * by + 0.5)) };
    s->columns = columns ? columns : imin(count, SIDE_MOST / s->w);
    const uint64_t rows = ((uint64_t)count + (uint64_t)s->columns - 1) / (uint64_t)s->columns;
    if (!picture_make(&s->p, (uint64_t)s->columns * (uint64_t)s->w, rows * (uint64_t)s->h, where,
                      e)) return false;
    memset(s->p.rgb, 255, 3 * (size_t)s->p.w * (size_t)s->p.h);
    return true;
}

/* Put p, at its size on the sheet, in the next place. */
static void sheet_put(Sheet *s, const Picture *p)
{
    const size_t x = (size_t)(s->count % s->columns) * (size_t)s->w,
                 y = (size_t)(s->count / s->columns) * (size_t)s->h, row = 3 * (size_t)s->w;
    for (size_t i = 0; i < (size_t)s->h; i++)
        memcpy(s->p.rgb + 3 * ((y + i) * (size_t)s->p.w + x), p->rgb + i * row, row);
    s->count++;
}

/* The same of a picture of any size, which stays as it is. */
static bool sheet_add(Sheet *s, const Picture *p, Error *e)
{
    const size_t bytes = 3 * (size_t)p->w * (size_t)p->h;
    Picture copy = { .w = p->w, .h = p->h, .rgb = malloc(bytes) };
    if (!copy.rgb) return fail(e, "--film: out of memory: needed %zu bytes", bytes);
    memcpy(copy.rgb, p->rgb, bytes);
    const bool ok = picture_resize(&copy, s->w, s->h, LANCZOS, e);
    if (ok) sheet_put(s, &copy);
    picture_free(&copy);
    return ok;
}

/* ---- maps ------------------------------------------------------------------------------------ */

static bool has_cross_attention(const Unet *u)
{
    bool has = u->context && u->has_middle;
    for (int i = 0; u->context && i < u->levels; i++)
        has = has || u->down[i].transformer || u->up[i].transformer;
    return has;
}

static bool open_preview(Views *v, Error *e)
{
    const Vae *own = &v->sd->vae;
    if (!vae_open(&v->vae, v->a->preview_vae, e)) return false;
    return (v->vae.latents == own->latents && v->vae.pixels == own->pixels)
        || fail(e, "%s: latent_channels and in_channels: found %d and %d, want %d and %d",
                v->vae.weights.path, v->vae.latents, v->vae.pixels, own->latents, own->pixels);
}

bool views_open(Views *v, SdRequest *r, Error *e)
{
    const Args *a = v->a;
    const int f = v->sd->vae.factor;
    v->w = r->width / f;
    v->h = r->height / f;
    const int columns = a->grid.rows ? a->grid.columns : (int)ceil(sqrt(a->batch));
    if (a->sheet && !a->plan && !sheet_open(&v->sheet, a->batch, r->width, r->height, SHEET_SIDE,
                                            columns, "--contact-sheet", e)) return false;
    if (a->preview_vae && !open_preview(v, e)) return false;
    if (!a->heatmap) return true;
    if (!has_cross_attention(&v->sd->unet))
        return fail(e, "%s: cross attention: found none, --heatmap wants some",
                    v->sd->unet.weights.path);
    if (!sd_words(v->sd, r, &v->words, &v->word_count, e)) return false;
    if (!v->word_count && !a->plan) return misuse(e, "--heatmap: the prompt has no words");
    v->heat = calloc((size_t)v->word_count + 1, (size_t)v->w * (size_t)v->h * sizeof *v->heat);
    if (!v->heat) return fail(e, "--heatmap: out of memory: needed room for %d maps",
                              v->word_count);
    r->heat = v->heat;
    r->words = v->words;
    r->word_count = v->word_count;
    return true;
}

/* A word's share of all attention: the mean of its map; *top: the largest value. */
static double share(const Views *v, int k, float *top)
{
    const size_t n = (size_t)v->w * (size_t)v->h;
    const float *map = v->heat + (size_t)k * n;
    double sum = 0;
    *top = 0;
    for (size_t i = 0; i < n; i++) {
        sum += map[i];
        if (map[i] > *top) *top = map[i];
    }
    return sum / (double)n;
}

/* DIR/NN-word.png: what is no letter or digit of ASCII becomes _, other scripts stay. */
static char *map_name(const char *folder, int k, const char *word, Error *e)
{
    enum { WORD_MOST = 64 };
    char name[WORD_MOST + 32];
    size_t n = (size_t)snprintf(name, sizeof name, "%02d-", k + 1), length = strlen(word);
    const bool valid = utf8_valid(word, length);
    if (length > WORD_MOST)
        for (length = WORD_MOST; length && ((unsigned char)word[length] & 0xc0) == 0x80;) length--;
    for (size_t i = 0; i < length; i++) {
        const unsigned char c = (unsigned char)word[i], lower = c | 0x20;
        const bool safe = (c >= '0' && c <= '9') || (lower >= 'a' && lower <= 'z') || c == '-'
            || (c >= 0x80 && valid);
        name[n++] = safe ? (char)c : '_';
    }
    snprintf(name + n, sizeof name - n, ".png");
    char *path = path_join(folder, name);
    if (!path) fail(e, "out of memory: needed room for a name");
    return path;
}

/* The map of one word as a picture, written but not committed. */
static Output *write_map(const Views *v, const char *folder, int k, Error *e)
{
    const size_t n = (size_t)v->w * (size_t)v->h;
    const int f = v->sd->vae.factor;
    const float *map = v->heat + (size_t)k * n;
    const char *word = v->words[k].text;
    char number[32];
    float top;
    Picture p = { 0 };
    snprintf(number, sizeof number, "%.6g", share(v, k, &top));
    if (!picture_make(&p, (uint64_t)v->w, (uint64_t)v->h, "--heatmap", e)) return NULL;
    for (size_t i = 0; i < 3 * n; i++)
        p.rgb[i] = top > 0 ? level(2 * (double)map[i / 3] / top - 1) : 0;
    char *name = map_name(folder, k, word, e);
    Output *o = name && picture_resize(&p, v->w * f, v->h * f, BILINEAR, e)
        ? write_view(v->a, name, &p, word, number, e) : NULL;
    free(name);
    picture_free(&p);
    return o;
}

/* The film, and the maps in folder: all or none. */
static bool write_files(const Views *v, const char *film, const char *folder, Error *e)
{
    const int count = v->word_count + 1;
    Output **all = calloc((size_t)count, sizeof *all);
    bool made = false;
    bool ok = all || fail(e, "--heatmap: out of memory: needed room for %d files", count);
    if (ok && film) ok = (all[0] = write_view(v->a, film, &v->film.p, NULL, NULL, e));
    if (ok && folder && !folder_exists(folder)) ok = folder_make(folder, &made, e);
    for (int i = 1; ok && i < count; i++) ok = (all[i] = write_map(v, folder, i - 1, e));
    for (int i = 0; all && i < count; i++) {
        if (ok && all[i]) ok = output_commit(all[i], e);
        else output_discard(all[i]);
    }
    if (!ok && made) rmdir(folder);
    free(all);
    return ok;
}

/* ---- the run --------------------------------------------------------------------------------- */

void views_begin(Views *v, int index)
{
    picture_free(&v->film.p);
    v->film = (Sheet){ 0 };
    v->index = index;
    v->error = (Error){ 0 };
}

bool views_step(Views *v, int call, int calls, const float *x0)
{
    const Args *a = v->a;
    const int w = v->w * v->sd->vae.factor, h = v->h * v->sd->vae.factor;
    const bool shared = a->film && a->preview_vae;         /* decoded once for both */
    Error *e = &v->error;
    Picture p = { 0 }, small = { 0 };
    bool ok = true;
    trace_enter("preview%d", call);
    if (a->preview || shared) ok = promise(v, x0, w, h, &p, e);
    if (ok && a->preview) {
        char *name = numbered(a->preview, v->index, e);
        ok = name && save_view(a, name, &p, e);
        free(name);
    }
    if (ok && a->film && call == 1)
        ok = sheet_open(&v->film, calls + 1, w, h, FILM_SIDE, 0, "--film", e);
    if (ok && shared) ok = sheet_add(&v->film, &p, e);
    else if (ok && a->film) {
        ok = promise(v, x0, v->film.w, v->film.h, &small, e);
        if (ok) sheet_put(&v->film, &small);
        picture_free(&small);
    }
    picture_free(&p);
    trace_leave();
    return ok;
}

bool views_end(Views *v, const Picture *p, Error *e)
{
    const Args *a = v->a;
    char *film = a->film ? numbered(a->film, v->index, e) : NULL;
    char *folder = a->heatmap && !e->code ? numbered(a->heatmap, v->index, e) : NULL;
    bool ok = !e->code && (!film || sheet_add(&v->film, p, e)) && write_files(v, film, folder, e)
        && (!a->sheet || sheet_add(&v->sheet, p, e));
    free(film);
    free(folder);
    float top;
    for (int i = 0; ok && a->verbose && i < v->word_count; i++)
        say(a, "%s\t%.6f", v->words[i].text, share(v, i, &top));
    return ok;
}

bool views_commit(Views *v, Error *e)
{
    return !v->a->sheet || save_view(v->a, v->a->sheet, &v->sheet.p, e);
}

void views_print(const Views *v)
{
    float top;
    for (int i = 0; i < v->word_count; i++) {
        fputs(i ? ", {\"word\": " : ", \"words\": [{\"word\": ", stdout);
        print_json(v->words[i].text);
        printf(", \"share\": %.9g}", share(v, i, &top));
    }
    if (v->word_count) fputc(']', stdout);
}

void views_close(Views *v)
{
    picture_free(&v->film.p);
    picture_free(&v->sheet.p);
    words_free(v->words, v->word_count);
    arena_close(&v->m);
    vae_close(&v->vae);
    free(v->heat);
    free(v->colours);
}
