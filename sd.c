/* sd.c - Stable Diffusion: text to picture.
 *                              (diffusers StableDiffusionPipeline, its Img2Img and Inpaint sisters)
 * Read in this order: the stages, the run, what is checked before, opening.
 * Not here: SDXL, safety checkers. */
#include "sd.h"
#include "original.h"

#include <math.h>
#include <stdlib.h>

/* Where words were looked at, for one size of latents: sums over layers and calls. */
typedef struct { int h, w, layers; double *sum; } Heat;                        /* [words][h][w] */

/* One run: what its stages hand on. */
typedef struct {
    const Sd *sd;
    Unet unet;                     /* the model's; watched where heat is asked for */
    const SdRequest *r;
    Arena m;
    int h, w;                      /* latents */
    size_t count;                  /* values of the latents: c * h * w */
    int halves;                    /* 2: guidance asks without the text and with it, in one batch */
    Tensor context;                /* [halves,T,C], at the bottom of the arena */
    float *x, *picture;            /* latents as torch lays them out: [c][h][w] */
    float *mask;                   /* for a UNet that does not see it: [c][h][w], 1 is repainted */
    float *input;                  /* of one that does: x, mask, what is kept, [2 c + 1][h][w] */
    float *batch;                  /* [halves][h][w][c], in and out of the UNet */
    Heat heat[LEVELS];
    Rng rng;
    int calls;
} Run;

/* ---- stage 1: text --------------------------------------------------------------------------- */

/* Whether guidance asks twice: a UNet that is told the guidance is asked once. */
static int halves(const Sd *s, const SdRequest *r)
{
    return r->guidance > 1 && !s->unet.guidance_width ? 2 : 1;
}

static int text_length(const Sd *s)
{
    int told = tok_max_length(s->tok);
    return told >= 2 && told < s->text.positions ? told : s->text.positions;
}

/* A misuse: the same words, another exit code. */
static bool misused(Error *e)
{
    if (!strstr(e->text, ": out of memory")) e->code = 2;
    return false;
}

bool sd_prompts(const Sd *s, const SdRequest *r, Prompt out[2], Error *e)
{
    bool ok = true;
    out[0] = out[1] = (Prompt){ 0 };
    if (halves(s, r) == 2 && !r->negative_embeds)
        ok = prompt_read(&out[0], s->tok, &s->adapters, r->negative, text_length(s), r->weighting,
                         "negative-prompt", e);
    if (ok && !r->prompt_embeds)
        ok = prompt_read(&out[1], s->tok, &s->adapters, r->prompt, text_length(s), r->weighting,
                         "prompt", e);
    const int chunks = imax(out[0].chunks, out[1].chunks);
    for (int i = 0; ok && i < 2; i++)
        if (out[i].chunks) ok = prompt_pad(&out[i], s->tok, chunks, e);
    if (ok) return true;
    prompt_free(&out[0]);
    prompt_free(&out[1]);
    return misused(e);
}

/* How many tokens the texts have, padded to one length. */
static int text_tokens(const Sd *s, const SdRequest *r)
{
    Prompt p[2];
    if (!r->weighting || !sd_prompts(s, r, p, &(Error){ 0 })) return text_length(s);
    const int chunks = imax(1, imax(p[0].chunks, p[1].chunks));
    prompt_free(&p[0]);
    prompt_free(&p[1]);
    return chunks * text_length(s);
}

/* How many tokens the context has. */
static int context_tokens(const Sd *s, const SdRequest *r)
{
    return r->prompt_embeds || r->negative_embeds ? r->embed_tokens : text_tokens(s, r);
}

/* [negative, prompt] -> [2,T,C], or the prompt alone; at the bottom of the arena.  ids: [T] each.
 * The reference leaves layers out (clip_skip) for the prompt alone. */
static Tensor encode_text(Arena *m, const Sd *s, const SdRequest *r, int halves, const int *ids)
{
    const int n = context_tokens(s, r), c = s->text.encoder.width, length = text_length(s);
    const float *given[2] = { halves == 2 ? r->negative_embeds : r->prompt_embeds,
                              r->prompt_embeds };
    Tensor context = tensor(m, halves, n, 1, c);
    const size_t top = m->used;
    trace_enter("text_encoder");
    if (!given[0] && !given[halves - 1] && !r->clip_skip) {        /* texts alike: one batch */
        to_host(clip_text(m, &s->text, ids, halves * n / length, length, 0), context.at);
    } else
        for (int i = 0; i < halves; i++) {
            const int skip = i == halves - 1 ? r->clip_skip : 0;
            const int *own = ids ? ids + i * n : NULL;             /* none when counting */
            to_host(given[i] ? from_host(m, 1, n, 1, c, given[i])
                             : clip_text(m, &s->text, own, n / length, length, skip),
                    item(context, i).at);
        }
    trace_leave();
    m->used = top;
    return context;
}

static bool run_text(Run *run, Error *e)
{
    const Sd *s = run->sd;
    const size_t n = (size_t)context_tokens(s, run->r);
    const int first = 2 - run->halves;                             /* 1: the prompt alone */
    Prompt p[2];
    if (!sd_prompts(s, run->r, p, e)) return false;
    int *ids = calloc(2 * n, sizeof *ids);
    bool ok = ids || fail(e, "out of memory: needed room for %zu tokens", 2 * n);
    for (int i = first; ok && i < 2; i++)
        if (p[i].ids) memcpy(ids + (size_t)(i - first) * n, p[i].ids, n * sizeof *ids);
    if (ok) run->context = encode_text(&run->m, s, run->r, run->halves, ids);
    for (int i = first; ok && i < 2; i++)
        prompt_weigh(&p[i], item(run->context, i - first).at, run->context.c);
    if (ok) host_wrote(run->context);
    if (ok && !all_finite(run->context))
        ok = fail(e, "%s: text embedding: not finite", s->path);
    free(ids);
    prompt_free(&p[0]);
    prompt_free(&p[1]);
    return ok;
}

/* ---- stage 2: noise, and a picture to start from --------------------------------------------- */

/* 8-bit RGB -> -1..1, [1,H,W,3]; 0 where mask, if any, is white. */
static Tensor picture_tensor(Arena *m, const Picture *p, const Picture *mask, int h, int w)
{
    Tensor x = tensor(m, 1, h, w, 3);
    for (size_t i = 0; m->base && i < tensor_count(x); i++)
        x.at[i] = mask && picture_white(mask, i / 3) ? 0 : (float)p->rgb[i] / 255.0f * 2.0f - 1.0f;
    host_wrote(x);
    return x;
}

/* The picture to start from, or what a mask leaves of it, to latents. */
static bool run_encode(Run *run, const Picture *mask, float *latents, Error *e)
{
    const Vae *v = &run->sd->vae;
    const size_t top = run->m.used;
    trace_enter("vae");
    Tensor x = picture_tensor(&run->m, run->r->init, mask, run->r->height, run->r->width);
    Tensor moments = vae_encode(&run->m, v, x);
    trace_leave();
    if (!all_finite(moments))
        return fail(e, "%s: encoding the picture: not finite", v->weights.path);
    vae_sample(v, moments, &run->rng, latents);
    run->m.used = top;
    return true;
}

/* The angle whose cosine is x, -1 < x < 1: Newton's steps. */
static double angle(double x)
{
    double a = 1.5707963267948966 - x;
    for (int i = 0; i < 16; i++) a += (f_cos(a) - x) / f_sin(a);
    return a;
}

/* x turned towards y by a part of the angle between them, column by column of each channel:
 *     sin((1 - part) a) / sin(a) x + sin(part a) / sin(a) y
 *                                    slerp of stable-diffusion-webui; Shoemake 1985 */
static void turn(float *x, const float *y, double part, size_t c, size_t h, size_t w)
{
    for (size_t i = 0; i < c * w; i++) {
        const size_t first = i / w * h * w + i % w;
        double xx = 0, yy = 0, xy = 0, of_x = 1 - part, of_y = part;
        for (size_t k = first; k < first + h * w; k += w) {
            xx += (double)x[k] * x[k];
            yy += (double)y[k] * y[k];
            xy += (double)x[k] * y[k];
        }
        const double cosine = xy / sqrt(xx * yy);
        if (cosine > -0.9999 && cosine < 0.9999) {
            const double a = angle(cosine);
            of_x = f_sin((1 - part) * a) / f_sin(a);
            of_y = f_sin(part * a) / f_sin(a);
        }
        for (size_t k = first; k < first + h * w; k += w)
            x[k] = (float)(of_x * x[k] + of_y * y[k]);
    }
}

/* Half of what n has more than m, rounded down; negative where it is less. */
static int margin(int n, int m) { return n >= m ? (n - m) / 2 : -((m - n + 1) / 2); }

/* Noise y [c][h][w] into the middle of x [c][H][W]: cut alike on either side where it is larger, in
 * a frame of x's own where it is smaller.  An odd rest of what is cut stays x's own, as there.
 *                                          (resize seed from, of AUTOMATIC1111's web interface) */
static void place(float *x, int H, int W, const float *y, int h, int w, int c)
{
    const int down = margin(H, h), right = margin(W, w);
    const int rows = down < 0 ? h + 2 * down : h, columns = right < 0 ? w + 2 * right : w;
    for (int i = 0; i < c * rows; i++) {
        const int k = i / rows, to = k * H + imax(down, 0) + i % rows,
                  from = k * h + imax(-down, 0) + i % rows;
        memcpy(x + (size_t)to * (size_t)W + imax(right, 0),
               y + (size_t)from * (size_t)w + imax(-right, 0), (size_t)columns * sizeof *x);
    }
}

/* The first noise of a seed. */
static void first_noise(const SdRequest *r, uint64_t seed, float *x, size_t n)
{
    Rng rng;
    rng_seed(&rng, seed);
    rng.noise = r->noise;
    randn(&rng, x, n);
}

/* The noise to begin with: the seed's or the one given; turned, and placed, if so asked. */
static bool run_noise(Run *run, Error *e)
{
    const SdRequest *r = run->r;
    const int f = run->sd->vae.factor, c = run->sd->vae.latents;
    const int h = r->noise_h ? r->noise_h / f : run->h, w = r->noise_w ? r->noise_w / f : run->w;
    const size_t n = (size_t)c * (size_t)h * (size_t)w;
    const bool placed = h != run->h || w != run->w;
    if (r->latents) memcpy(run->x, r->latents, run->count * sizeof(float));
    else randn(&run->rng, run->x, run->count);
    if (!placed && !(r->variation > 0)) return true;
    float *noise = malloc(2 * n * sizeof *noise), *x = placed ? noise : run->x;
    if (!noise) return fail(e, "noise: out of memory: needed room for %zu latents", 2 * n);
    if (placed) first_noise(r, r->seed, x, n);
    if (r->variation > 0) {
        first_noise(r, r->variation_seed, noise + n, n);
        turn(x, noise + n, r->variation, (size_t)c, (size_t)h, (size_t)w);
    }
    if (placed) place(run->x, run->h, run->w, x, h, w, c);
    free(noise);
    return true;
}

/* The mask on the latents' grid, by nearest neighbour. */
static void small_mask(const Run *run, float *to)
{
    const size_t f = (size_t)run->sd->vae.factor, wide = (size_t)run->r->width;
    for (size_t y = 0; y < (size_t)run->h; y++)
        for (size_t x = 0; x < (size_t)run->w; x++)
            to[y * (size_t)run->w + x] = picture_white(run->r->mask, y * f * wide + x * f);
}

/* What the UNet shall know of the mask.  One that does not see it keeps the picture step by step;
 * the reference encodes what the mask leaves for that one too, and forgets it, noise and all. */
static bool run_mask(Run *run, Error *e)
{
    const size_t n = (size_t)run->h * (size_t)run->w;
    if (run->sd->inpaints) {
        small_mask(run, run->input + run->count);
        return run_encode(run, run->r->mask, run->input + run->count + n, e);
    }
    small_mask(run, run->mask);
    for (size_t i = n; i < run->count; i++) run->mask[i] = run->mask[i - n];
    randn(&run->rng, run->batch, run->count);
    return true;
}

/* Whether the picture itself is encoded: one that is repainted from noise alone need not be. */
static bool starts_from_picture(const Sd *s, const SdRequest *r)
{
    return r->init && !(s->inpaints && r->strength >= 1);
}

/* All of it, in the reference's order of draws. */
static bool run_start(Run *run, Error *e)
{
    const bool encodes = starts_from_picture(run->sd, run->r);
    return (!encodes || run_encode(run, NULL, run->picture, e)) && run_noise(run, e)
        && (!run->r->mask || run_mask(run, e));
}

/* ---- stage 3: denoising ---------------------------------------------------------------------- */

/* The UNet on run->batch: [halves,h,w,c] in place. */
static void predict(Run *run, double t)
{
    const size_t top = run->m.used;
    const Unet *u = &run->unet;
    trace_enter("step%d.unet", run->calls++);
    Tensor x = from_host(&run->m, run->halves, run->h, run->w, u->in, run->batch);
    to_host(unet(&run->m, u, x, t, run->context, (Tensor){ 0 }), run->batch);
    trace_leave();
    run->m.used = top;
}

static double deviation(const float *x, size_t n)
{
    double sum = 0, square = 0;
    for (size_t i = 0; i < n; i++) sum += x[i];
    for (size_t i = 0; i < n; i++) square += (x[i] - sum / (double)n) * (x[i] - sum / (double)n);
    return sqrt(square / (double)(n - 1));
}

/* The guided prediction brought part of the way to the spread of the one with the text.
 *                                         rescale_noise_cfg; Lin et al. 2023, section 3.4 */
static void rescale(float *guided, const float *with, size_t n, float part)
{
    const float ratio = (float)(deviation(with, n) / deviation(guided, n));
    for (size_t i = 0; i < n; i++)
        guided[i] = part * (guided[i] * ratio) + (1 - part) * guided[i];
}

/* e(x) + g (e(x, text) - e(x)): classifier-free guidance, a model made of one asked twice.
 *                                                                             Ho & Salimans 2022 */
static bool guided(void *self, const float *x, double t, float *prediction, Error *e)
{
    Run *run = self;
    const size_t in = (size_t)run->unet.in, n = (size_t)run->h * (size_t)run->w;
    const size_t c = (size_t)run->unet.out;
    const float g = (float)run->r->guidance;
    (void)e;                                            /* sample() looks for what is not finite */
    if (run->input) x = memcpy(run->input, x, run->count * sizeof *x);
    channels_last(x, in, n, run->batch);
    if (run->halves == 2) memcpy(run->batch + in * n, run->batch, in * n * sizeof(float));
    predict(run, t);
    for (size_t i = 0; run->halves == 2 && i < run->count; i++) {
        const float without = run->batch[i], with = run->batch[run->count + i];
        run->batch[i] = without + g * (with - without);
    }
    if (run->halves == 2 && run->r->rescale > 0)
        rescale(run->batch, run->batch + run->count, run->count, (float)run->r->rescale);
    channels_first(run->batch, c, n, prediction);
    return true;
}

/* A Watch: add up what a cross attention looked at, word by word. */
static void see(void *self, Tensor looks)
{
    Run *run = self;
    const SdRequest *r = run->r;
    const size_t n = (size_t)looks.h * (size_t)looks.w;
    Heat *heat = run->heat;
    while (heat->h != looks.h || heat->w != looks.w) heat++;
    heat->layers++;
    host_reads(looks);
    for (int i = 0; i < r->word_count; i++)
        for (size_t k = 0; k < n; k++)
            for (int j = r->words[i].first; j < imin(r->words[i].end, looks.c); j++)
                heat->sum[(size_t)i * n + k] += looks.at[k * (size_t)looks.c + (size_t)j];
}

/* Room for the sums of every size that the UNet goes through. */
static bool heat_open(Run *run, Error *e)
{
    int h = run->h, w = run->w;
    run->unet.watch = see;
    run->unet.watcher = run;
    for (int i = 0; i < run->unet.levels; i++, h = (h + 1) / 2, w = (w + 1) / 2) {
        run->heat[i] = (Heat){ h, w, 0, calloc((size_t)run->r->word_count * (size_t)h * (size_t)w,
                                               sizeof(double)) };
        if (!run->heat[i].sum) return fail(e, "heat: out of memory: needed room for maps");
    }
    return true;
}

/* Position i of `to` seen in `from` places: between first and first + 1, how far along. */
static int between(int i, int to, int from, double *along)
{
    const double at = (i + 0.5) * from / to - 0.5;
    const int first = imax(0, imin((int)at, from - 2));
    *along = at < 0 || from == 1 ? 0 : at > from - 1 ? 1 : at - first;
    return first;
}

/* The mean over all layers and calls, each map resized to the latents: bilinear. */
static void heat_mean(const Run *run)
{
    int layers = 0;
    for (int i = 0; i < run->unet.levels; i++) layers += run->heat[i].layers;
    float *to = run->r->heat;
    for (int word = 0; word < run->r->word_count; word++)
        for (int y = 0; y < run->h; y++)
            for (int x = 0; x < run->w; x++) {
                double sum = 0, down, right;
                for (const Heat *heat = run->heat; heat < run->heat + run->unet.levels; heat++) {
                    const int w = heat->w, fy = between(y, run->h, heat->h, &down),
                              fx = between(x, run->w, w, &right);
                    const double *at = heat->sum + (word * heat->h + fy) * w + fx;
                    const int below = heat->h > 1 ? w : 0, beside = w > 1;
                    sum += (1 - down) * ((1 - right) * at[0] + right * at[beside])
                         + down * ((1 - right) * at[below] + right * at[below + beside]);
                }
                *to++ = (float)(sum / imax(1, layers));
            }
}

static bool run_denoise(Run *run, Error *e)
{
    const SdRequest *r = run->r;
    SamplerOptions o = sd_sampler(r);
    o.mask = run->mask;
    o.picture = starts_from_picture(run->sd, r) ? run->picture : NULL;
    o.rng = &run->rng, o.count = run->count;
    o.each = r->step, o.self = r->self;
    if (!sample(sd_schedule(run->sd, r), &o, run->x, guided, run, e)) return false;
    if (run->r->heat) heat_mean(run);
    if (r->latents_out) memcpy(r->latents_out, run->x, run->count * sizeof(float));
    return true;
}

/* ---- stage 4: pixels ------------------------------------------------------------------------- */

/* clamp(x / 2 + 0.5) * 255, a half to the even level, as numpy rounds. */
static uint8_t level(float x)
{
    float v = x / 2 + 0.5f;
    v = (v < 0 ? 0 : v > 1 ? 1 : v) * 255.0f;
    int down = (int)v;
    float rest = v - (float)down;
    return (uint8_t)(rest > 0.5f || (rest == 0.5f && down % 2) ? down + 1 : down);
}

static bool run_decode(Run *run, Picture *out, Error *e)
{
    const Vae *v = &run->sd->vae;
    const size_t n = (size_t)run->h * (size_t)run->w, c = (size_t)v->latents;
    run->m.used = 0;                                               /* the context has served */
    for (size_t i = 0; i < run->count; i++) run->x[i] /= (float)v->scaling;
    channels_last(run->x, c, n, run->batch);
    trace_enter("vae");
    Tensor x = from_host(&run->m, 1, run->h, run->w, v->latents, run->batch);
    x = vae_decode(&run->m, v, x);                                              /* [1,H,W,3] */
    trace_leave();
    if (!all_finite(x)) return fail(e, "%s: decoding the picture: not finite", v->weights.path);
    *out = (Picture){ .w = x.w, .h = x.h, .rgb = malloc(tensor_count(x)) };
    if (!out->rgb)
        return fail(e, "out of memory: needed %zu bytes for the picture", tensor_count(x));
    size_t different = 0;
    for (size_t i = 0; i < tensor_count(x); i++) {
        out->rgb[i] = level(x.at[i]);
        different += out->rgb[i] != out->rgb[i % 3];
    }
    if (different) return true;
    picture_free(out);
    return fail(e, "%s: decoding the picture: every pixel is the same: the weights or the latents "
                "are broken", v->weights.path);
}

/* ---- the run --------------------------------------------------------------------------------- */

const Schedule *sd_schedule(const Sd *s, const SdRequest *r)
{
    return r->mask ? &s->repaint : &s->schedule;
}

SamplerOptions sd_sampler(const SdRequest *r)
{
    return (SamplerOptions){ .method = r->method, .schedule = r->schedule, .steps = r->steps,
                             .timesteps = r->timesteps, .sigmas = r->sigmas, .eta = r->eta,
                             .picture = r->init ? (const float *)r->init->rgb : NULL,
                             .strength = r->strength };
}

void sd_plan(const Sd *s, const SdRequest *r, SdStage stages[SD_STAGES])
{
    static const char *const names[SD_STAGES] = { "text", "encode", "unet", "decode" };
    const int h = r->height / s->vae.factor, w = r->width / s->vae.factor;
    const int encodes = starts_from_picture(s, r) + (r->mask && s->inpaints);
    const SamplerOptions o = sd_sampler(r);
    SamplerPlan plan = { 0 };
    Unet watched = s->unet;
    if (r->heat) watched.watch = see;
    int calls = r->steps;
    if (sampler_plan(&plan, sd_schedule(s, r), &o, &(Error){ 0 })) calls = plan.end - plan.first;
    sampler_plan_free(&plan);
    for (int i = 0; i < SD_STAGES; i++) {
        Arena m = { 0 };
        Tensor context = { .b = halves(s, r), .h = context_tokens(s, r), .w = 1,
                           .c = s->text.encoder.width };
        if (i == SD_TEXT) encode_text(&m, s, r, halves(s, r), NULL);
        if (i == SD_ENCODE || i == SD_UNET)
            context = tensor(&m, context.b, context.h, 1, context.c);
        if (i == SD_ENCODE && r->init)
            vae_encode(&m, &s->vae, picture_tensor(&m, NULL, NULL, r->height, r->width));
        if (i == SD_UNET) {
            Tensor x = tensor(&m, halves(s, r), h, w, s->unet.in);
            unet(&m, &watched, x, 0, context, (Tensor){ 0 });
        }
        if (i == SD_DECODE) vae_decode(&m, &s->vae, tensor(&m, 1, h, w, s->vae.latents));
        stages[i] = (SdStage){ names[i], m.peak, m.macs, m.weight_bytes,
                               i == SD_UNET ? calls : i == SD_ENCODE ? encodes : 1 };
        if (!stages[i].calls) stages[i].memory = 0;
    }
}

static size_t largest(const SdStage stages[SD_STAGES])
{
    size_t need = 0;
    for (int i = 0; i < SD_STAGES; i++) need = zmax(need, stages[i].memory);
    return need;
}

static bool run_open(Run *run, Error *e)
{
    SdStage stages[SD_STAGES];
    sd_plan(run->sd, run->r, stages);
    const size_t need = largest(stages), limit = run->r->max_memory;
    if (limit && need > limit)
        return fail(e, "memory: this run needs %zu bytes for activations, the limit is %zu", need,
                    limit);
    const size_t n = run->count * sizeof(float),
                 in = n / (size_t)run->unet.out * (size_t)run->unet.in;
    run->x = malloc(n);
    run->picture = malloc(n);
    run->batch = malloc(2 * in);
    if (run->r->mask && !run->sd->inpaints) run->mask = malloc(n);
    if (run->sd->inpaints) run->input = malloc(in);
    if (!run->x || !run->picture || !run->batch || (run->sd->inpaints && !run->input)
        || (run->r->mask && !run->mask && !run->input))
        return fail(e, "out of memory: needed %zu bytes for latents", 3 * n + 3 * in);
    if (run->r->heat && !heat_open(run, e)) return false;
    if (!arena_open(&run->m, need, run->r->scratch, e)) return false;
    run->m.changes = run->sd->adapters.changes;
    run->m.change_count = run->sd->adapters.change_count;
    run->m.wrap = run->r->tiles;
    return true;
}

/* The wall time of a stage, if anybody asked. */
static bool timed(Run *run, int stage, double start, bool ok)
{
    if (run->r->seconds) run->r->seconds[stage] = now() - start;
    return ok;
}

bool sd_generate(const Sd *s, const SdRequest *r, Picture *out, Error *e)
{
    Run run = { .sd = s, .unet = s->unet, .r = r, .halves = halves(s, r) };
    run.unet.guidance = r->guidance;
    *out = (Picture){ 0 };
    if (!sd_check(s, r, e)) return false;
    run.h = r->height / s->vae.factor;
    run.w = r->width / s->vae.factor;
    run.count = (size_t)s->vae.latents * (size_t)run.h * (size_t)run.w;
    rng_seed(&run.rng, r->seed);
    run.rng.noise = r->noise;
    double t = now();
    bool ok = run_open(&run, e) && timed(&run, SD_TEXT, t, run_text(&run, e));
    if (ok) { t = now(); ok = timed(&run, SD_ENCODE, t, run_start(&run, e)); }
    if (ok) { t = now(); ok = timed(&run, SD_UNET, t, run_denoise(&run, e)); }
    if (ok) { t = now(); ok = timed(&run, SD_DECODE, t, run_decode(&run, out, e)); }
    arena_close(&run.m);
    free(run.x);
    free(run.picture);
    free(run.mask);
    free(run.input);
    free(run.batch);
    for (int i = 0; i < LEVELS; i++) free(run.heat[i].sum);
    return ok;
}

/* ---- what is checked before ------------------------------------------------------------------ */

SdRequest sd_defaults(const Sd *s)
{
    return (SdRequest){ .width = s->size, .height = s->size, .steps = 50, .guidance = 7.5,
                        .strength = 0.75, .method = -1, .schedule = -1 };
}

static bool check_size(const Sd *s, const char *what, int n, Error *e)
{
    const int f = s->vae.factor, most = 8192 / f * f,
              below = imax(f, n / f * f), above = imin(most, below + f);
    if (n >= f && n <= most && n % f == 0) return true;
    fail(e, "%s: found %d, want a multiple of %d in %d..%d: %d or %d", what, n, f, f, most,
         imin(below, most), above);
    return misused(e);
}

/* What concerns a picture to start from and a mask. */
static bool check_pictures(const Sd *s, const SdRequest *r, Error *e)
{
    const Picture *const given[] = { r->init, r->mask };
    for (size_t i = 0; i < countof(given); i++)
        if (given[i] && (given[i]->w != r->width || given[i]->h != r->height))
            fail(e, "%s: found %dx%d, want %dx%d", i ? "mask" : "picture", given[i]->w,
                 given[i]->h, r->width, r->height);
    if (r->mask && !r->init) fail(e, "mask: found no picture, want one that it belongs to");
    if (s->inpaints && !r->mask)
        fail(e, "mask: none, and %s repaints masked parts of a picture: give a picture and a mask",
             s->unet.weights.path);
    return !e->code || misused(e);
}

bool sd_check(const Sd *s, const SdRequest *r, Error *e)
{
    SamplerPlan plan = { 0 };
    const SamplerOptions o = sd_sampler(r);
    if (!check_size(s, "width", r->width, e) || !check_size(s, "height", r->height, e))
        return false;
    if (r->clip_skip < 0 || r->clip_skip >= s->text.encoder.layers) {
        fail(e, "clip skip: found %d layers left out, this text encoder has %d", r->clip_skip,
             s->text.encoder.layers);
        return misused(e);
    }
    if (!check_pictures(s, r, e)) return false;
    Prompt p[2];
    if (!sd_prompts(s, r, p, e)) return false;
    prompt_free(&p[0]);
    prompt_free(&p[1]);
    if ((r->prompt_embeds != NULL) != (r->negative_embeds != NULL) && halves(s, r) == 2
        && r->embed_tokens != text_tokens(s, r)) {
        fail(e, "embeddings: found %d tokens, want %d beside a text", r->embed_tokens,
             text_tokens(s, r));
        return misused(e);
    }
    bool ok = sampler_plan(&plan, sd_schedule(s, r), &o, e) || misused(e);
    sampler_plan_free(&plan);
    return ok;
}

bool sd_words(const Sd *s, const SdRequest *r, PromptWord **out, int *count, Error *e)
{
    Prompt p[2];
    if (!sd_prompts(s, r, p, e)) return false;
    const bool ok = prompt_words(&p[1], s->tok, &s->adapters, out, count, e);
    prompt_free(&p[0]);
    prompt_free(&p[1]);
    return ok;
}

/* ---- opening --------------------------------------------------------------------------------- */

static bool index_check(const char *folder, Error *e)
{
    char *path = path_join(folder, "model_index.json");
    Json *index = json_read(path, 1 << 20, e);
    const char *name = NULL;
    bool ok = index && json_string(index, "_class_name", &name, path, e);
    if (ok && (!name || (strncmp(name, "StableDiffusion", 15)
                         && strncmp(name, "LatentConsistencyModel", 22))))
        ok = fail(e, "%s: _class_name: found %s, want StableDiffusionPipeline", path,
                  name ? name : "nothing");
    if (ok && (strstr(name, "XL") || strstr(name, "Diffusion3") || strstr(name, "Upscale")))
        ok = fail(e, "%s: %s is not supported, only Stable Diffusion 1.x and 2.x", path, name);
    json_free(index);
    free(path);
    return ok;
}

/* The schedule as the pipelines without and with a mask take it. */
static bool schedules_read(Sd *s, const Json *config, const char *where, Error *e)
{
    if (!schedule_read(&s->schedule, config, where, e)) return false;
    s->repaint = s->schedule;
    schedule_as_sd(&s->schedule, false);
    schedule_as_sd(&s->repaint, true);
    return true;
}

static bool schedule_open(Sd *s, const char *folder, Error *e)
{
    char *path = path_join(folder, "scheduler/scheduler_config.json");
    Json *config = json_read(path, 1 << 20, e);
    bool ok = config && schedules_read(s, config, path, e);
    json_free(config);
    free(path);
    return ok;
}

/* The parts must fit one another. */
static bool parts_fit(Sd *s, Error *e)
{
    const Unet *u = &s->unet;
    s->inpaints = u->in == 2 * s->vae.latents + 1;
    if ((u->in != s->vae.latents && !s->inpaints) || u->out != s->vae.latents)
        return fail(e, "%s: in_channels and out_channels: found %d and %d, the VAE has %d latent "
                    "channels", u->weights.path, u->in, u->out, s->vae.latents);
    if (u->class_width)
        return fail(e, "%s: class_embed_type: found simple_projection, want null: this is a UNet "
                    "for sounds", u->weights.path);
    if (s->vae.pixels != 3)
        return fail(e, "%s: in_channels: found %d, want 3 for pictures", s->vae.weights.path,
                    s->vae.pixels);
    if (u->context != s->text.encoder.width)
        return fail(e, "%s: cross_attention_dim: found %d, the text encoder is %d wide",
                    u->weights.path, u->context, s->text.encoder.width);
    if (tok_vocabulary(s->tok) > s->text.vocabulary)
        return fail(e, "%s: tokenizer: found %d tokens, the text encoder has room for %d", s->path,
                    tok_vocabulary(s->tok), s->text.vocabulary);
    return true;
}

/* Whether a UNet predicts v: where latents of 0.5 at t = 999, seen with a text of 0.5, are nearly
 * all noise to it, noise comes out as itself, and v far below.
 *                                                    (the test of AUTOMATIC1111's web interface) */
static bool predicts_v(const Unet *u, bool *v, Error *e)
{
    const int side = imax(8, 1 << (u->levels - 1));
    Arena m = { 0 };
    double sum = 0;
    Tensor x = { 0 }, context, y = { 0 };
    for (int pass = 0; pass < 2; pass++) {                 /* count the memory, then compute */
        if (pass && !arena_open(&m, m.peak, NULL, e)) return false;
        x = tensor(&m, 1, side, side, u->in);
        context = tensor(&m, 1, 2, 1, u->context);
        for (size_t i = 0; pass && i < tensor_count(x); i++) x.at[i] = 0.5f;
        for (size_t i = 0; pass && i < tensor_count(context); i++) context.at[i] = 0.5f;
        host_wrote(x);
        host_wrote(context);
        y = unet(&m, u, x, 999, context, (Tensor){ 0 });
    }
    host_reads(y);
    for (size_t i = 0; i < tensor_count(y); i++) sum += (double)y.at[i] - 0.5;
    *v = sum / (double)tensor_count(y) < -1;
    arena_close(&m);
    return true;
}

/* The schedule of a checkpoint.  One that was asked for v is the larger model, unless its config
 * says what it is. */
static bool schedule_original(Sd *s, Original *o, Error *e)
{
    bool v = false;
    if (o->asks_unet && s->unet.context) {
        if (!predicts_v(&s->unet, &v, e)
            || !(o->schedule = original_schedule(o->sd, v, e))) return false;
        if (v && !strcmp(o->unet.where, s->path)) s->unet.size = 96;
    }
    return schedules_read(s, o->schedule, o->schedule_where, e);
}

/* A checkpoint in one file. */
static bool open_file(Sd *s, const char *path, const char *tokenizer, Error *e)
{
    Original o;
    char *beside = tokenizer ? NULL : original_tokenizer(path);
    *s = (Sd){ .path = strdup(path) };
    bool opened = s->path && original_open(&o, path, e), ok = opened;
    if (ok && !tokenizer && !beside)
        ok = fail(e, "%s: no tokenizer beside it, want tokenizer/, tokenizer.json or vocab.json + "
                  "merges.txt, or another folder's with --tokenizer", path);
    ok = ok && (s->tok = tok_open(tokenizer ? tokenizer : beside, e)) != NULL;
    if (ok && o.sd == 2) tok_pad_with(s->tok, 0);                      /* as open_clip pads */
    if (ok) {
        s->text_weights = o.text.weights;
        o.text.weights = (Weights){ 0 };
    }
    ok = ok && clip_text_open_as(&s->text, &s->text_weights, o.text.config, o.text.where, e)
        && unet_open_as(&s->unet, &o.unet.weights, o.unet.config, o.unet.where, e)
        && vae_open_as(&s->vae, &o.vae.weights, o.vae.config, o.vae.where, e) && parts_fit(s, e)
        && schedule_original(s, &o, e);
    s->size = ok ? s->unet.size * s->vae.factor : 0;
    if (opened) original_close(&o);
    free(beside);
    if (!ok) sd_close(s);
    return ok;
}

bool sd_open(Sd *s, const char *folder, const char *tokenizer, Error *e)
{
    if (file_exists(folder)) return open_file(s, folder, tokenizer, e);
    *s = (Sd){ .path = path_join(folder, "") };
    char *tok = path_join(folder, "tokenizer"), *text = path_join(folder, "text_encoder");
    char *unet = path_join(folder, "unet"), *vae = path_join(folder, "vae");
    bool ok = s->path && tok && text && unet && vae;
    if (!ok) fail(e, "%s: out of memory", folder);
    ok = ok && index_check(folder, e) && schedule_open(s, folder, e)
        && (s->tok = tok_open(tokenizer ? tokenizer : tok, e)) != NULL
        && clip_text_open(&s->text, &s->text_weights, text, e) && unet_open(&s->unet, unet, e)
        && vae_open(&s->vae, vae, e) && parts_fit(s, e);
    s->size = ok ? s->unet.size * s->vae.factor : 0;
    free(tok);
    free(text);
    free(unet);
    free(vae);
    if (!ok) sd_close(s);
    return ok;
}

bool sd_lora(Sd *s, const char *path, double scale, Error *e)
{
    const LoraTarget into[] = { { "unet", &s->unet.weights },
                                { "text_encoder", &s->text_weights } };
    return adapters_lora(&s->adapters, path, scale, into, countof(into), e);
}

bool sd_word(Sd *s, const char *path, Error *e)
{
    Adapters *a = &s->adapters;
    if (!adapters_word(a, path, s->text.encoder.width, s->text.vocabulary, e)) return false;
    s->text.added = (Weight){ a->vectors, F32, 2, { a->vector_count, s->text.encoder.width } };
    return true;
}

bool sd_vae(Sd *s, const char *folder, Error *e)
{
    Vae other;
    if (!vae_open(&other, folder, e)) return false;
    vae_close(&s->vae);
    s->vae = other;
    s->size = s->unet.size * s->vae.factor;
    return parts_fit(s, e);
}

void sd_close(Sd *s)
{
    adapters_close(&s->adapters);
    tok_close(s->tok);
    clip_text_close(&s->text);
    weights_close(&s->text_weights);
    unet_close(&s->unet);
    vae_close(&s->vae);
    free(s->path);
    *s = (Sd){ 0 };
}
