/* audioldm.c - AudioLDM: text to sound.                              (diffusers AudioLDMPipeline)
 * Read in this order: the stages, the run, what is checked before, opening.
 * Not here: AudioLDM 2, the original's ranking by CLAP (the command does it), inpainting. */
#include "audioldm.h"

#include <math.h>
#include <stdlib.h>

/* One run: what its stages hand on. */
typedef struct {
    const AudioLdm *a;
    const AudioRequest *r;
    Arena m;
    int c, h, w, frames, mels;     /* latents [c][h][w], mel [frames][mels] */
    size_t count;                  /* values of the latents */
    int halves;                    /* 2: guidance asks without the text and with it, in one batch */
    Tensor class;                  /* [halves,1,1,D], at the bottom of the arena */
    float *x, *start;              /* latents as torch lays them out: [c][h][w] */
    float *batch;                  /* [halves][h][w][c], in and out of the UNet */
    float *mel;                    /* [frames][mels] */
    Rng rng;
    int calls;
} Run;

/* A stage's result that cannot be right: refused, with what it is of and what it came from. */
static bool sane(const float *x, size_t n, const char *path, const char *what, Error *e)
{
    size_t different = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(x[i])) return fail(e, "%s: %s: not finite", path, what);
        different += x[i] != x[0];
    }
    return different || fail(e, "%s: %s: every value is %g: the weights or the latents are broken",
                             path, what, x[0]);
}

/* ---- stage 1: text --------------------------------------------------------------------------- */

/* RoBERTa's positions begin behind the padding's. */
static int text_length(const AudioLdm *a)
{
    const int told = tok_max_length(a->tok), room = a->text.positions - a->text.pad - 1;
    return told >= 2 && told < room ? told : room;
}

/* x / |x|                                                          torch.nn.functional.normalize */
static void normalize_to(Tensor x, float *out)
{
    double sum = 0;
    for (int i = 0; i < x.c; i++) sum += (double)x.at[i] * x.at[i];
    const float length = (float)sqrt(sum);
    for (int i = 0; i < x.c; i++) out[i] = x.at[i] / (length > 1e-12f ? length : 1e-12f);
}

/* The embedding of one text, its length 1. */
static bool embed_text(Run *run, const char *text, const float *given, float *out, Error *e)
{
    const AudioLdm *a = run->a;
    const size_t top = run->m.used;
    const bool negative = run->halves == 2 && out == run->class.at;
    Ids ids = { 0 };
    Tensor x = { 0 };
    int lost;
    bool ok = true;
    if (given) x = from_host(&run->m, 1, 1, 1, a->text.dim, given);
    else {
        ok = tok_encode(a->tok, text ? text : "", text ? strlen(text) : 0, &ids, e)
            && (ids.count <= text_length(a) || tok_fit(a->tok, &ids, text_length(a), &lost, e));
        trace_enter(negative ? "negative.text_encoder" : "text_encoder");
        if (ok) x = clap_text(&run->m, &a->text, ids.at, ids.count);           /* [1,1,1,D] */
        trace_leave();
    }
    if (ok) host_reads(x);
    ok = ok && sane(x.at, tensor_count(x), a->path, "text embedding", e);
    if (ok) normalize_to(x, out);
    ids_free(&ids);
    run->m.used = top;
    return ok;
}

/* [negative, prompt], or the prompt alone. */
static bool run_text(Run *run, Error *e)
{
    const AudioRequest *r = run->r;
    const int last = run->halves - 1;
    run->class = tensor(&run->m, run->halves, 1, 1, run->a->text.dim);
    if ((last && !embed_text(run, r->negative, r->negative_embeds, run->class.at, e))
        || !embed_text(run, r->prompt, r->prompt_embeds, item(run->class, last).at, e))
        return false;
    host_wrote(run->class);
    return true;
}

/* ---- stage 2: a sound to start from ---------------------------------------------------------- */

enum { FFT = 1024, BINS = FFT / 2 + 1 };

/* The rows of a Fourier transform under a periodic Hann window: BINS real, then BINS imaginary.
 *                                              STFT of the original, a convolution with a basis */
static Weight fourier(Arena *m)
{
    Tensor basis = tensor(m, 2 * BINS, 1, 1, FFT), turn = tensor(m, 2, 1, 1, FFT);
    for (int i = 0; m->base && i < FFT; i++) {
        const double angle = 2 * 3.14159265358979323846 * i / FFT;
        turn.at[i] = (float)f_cos(angle);
        turn.at[FFT + i] = (float)-f_sin(angle);
    }
    for (int row = 0; m->base && row < 2 * BINS; row++)
        for (int i = 0; i < FFT; i++)
            basis.at[row * FFT + i] = (0.5f - 0.5f * turn.at[i])
                * turn.at[row / BINS * FFT + row % BINS * i % FFT];
    host_wrote(basis);
    return (Weight){ basis.at, F32, 2, { 2 * BINS, FFT } };
}

/* Place i of n samples mirrored at both ends, as often as needed. */
static size_t mirrored(int64_t i, int64_t n)
{
    const int64_t period = n > 1 ? 2 * (n - 1) : 1;
    i = (i % period + period) % period;
    return (size_t)(i < n ? i : period - i);
}

/* Log-mel spectrogram of frames * hop samples -> [1,frames,mels,1]: magnitudes, not powers, floor
 * 1e-5, natural logarithm.  filters [BINS][mels].                   TacotronSTFT.mel_spectrogram */
static Tensor log_mel(Arena *m, const float *x, int frames, int hop, const float *filters, int mels)
{
    Tensor mel = tensor(m, 1, frames, mels, 1);
    const size_t top = m->used;
    Tensor cut = tensor(m, 1, frames, 1, FFT);
    for (int f = 0; m->base && f < frames; f++)
        for (int i = 0; i < FFT; i++)
            cut.at[(size_t)f * FFT + (size_t)i] =
                x[mirrored((int64_t)f * hop + i - FFT / 2, (int64_t)frames * hop)];
    host_wrote(cut);
    Linear basis = { .w = fourier(m) };
    Tensor z = linear(m, cut, &basis);                                     /* [1,F,1,2*BINS] */
    host_reads(z);
    Tensor size = tensor(m, 1, frames, 1, BINS), bank = tensor(m, mels, 1, 1, BINS);
    for (size_t f = 0; m->base && f < (size_t)frames; f++)
        for (size_t i = 0; i < BINS; i++) {
            const float re = z.at[f * 2 * BINS + i], im = z.at[f * 2 * BINS + BINS + i];
            size.at[f * BINS + i] = sqrtf(re * re + im * im);
        }
    if (m->base) channels_first(filters, (size_t)mels, BINS, bank.at);
    host_wrote(size);
    host_wrote(bank);
    Linear mel_basis = { .w = { bank.at, F32, 2, { mels, BINS } } };
    Tensor y = linear(m, size, &mel_basis);                                    /* [1,F,1,mels] */
    host_reads(y);
    for (size_t i = 0; m->base && i < tensor_count(mel); i++)
        mel.at[i] = (float)f_log(y.at[i] > 1e-5f ? y.at[i] : 1e-5f);
    host_wrote(mel);
    m->used = top;
    return mel;
}

/* One channel at the vocoder's rate, centred, its peak 0.5; cut, or filled with silence, to n
 * samples the caller frees.                                               normalize_wav, pad_wav */
static float *prepare_sound(const Sound *from, int rate, size_t n, Error *e)
{
    const size_t values = from->frames * (size_t)from->channels;
    Sound s = { .rate = from->rate, .channels = from->channels, .frames = from->frames,
                .at = malloc((values + 1) * sizeof *s.at) };
    float *out = calloc(n + 1, sizeof *out);
    double mean = 0, peak = 0;
    bool ok = (s.at && out) || fail(e, "out of memory: needed room for %zu samples", values + n);
    if (ok) memcpy(s.at, from->at, values * sizeof *s.at);
    if (ok) sound_mono(&s);
    ok = ok && sound_resample(&s, rate, e);
    for (size_t i = 0; ok && i < s.frames; i++) mean += s.at[i];
    for (size_t i = 0; ok && i < s.frames; i++) {
        s.at[i] -= (float)(mean / (double)s.frames);
        if (fabs(s.at[i]) > peak) peak = fabs(s.at[i]);
    }
    if (ok && !(peak > 1e-8))
        ok = fail(e, "sound to start from: silence in all its %zu samples", from->frames);
    for (size_t i = 0; ok && i < zmin(n, s.frames); i++) out[i] = (float)(s.at[i] / peak * 0.5);
    sound_free(&s);
    if (ok) return out;
    free(out);
    return NULL;
}

static Tensor encode_sound(Arena *m, const AudioLdm *a, const float *samples, const float *filters,
                           int frames)
{
    trace_enter("vae");
    Tensor mel = log_mel(m, samples, frames, a->vocoder.hop, filters, a->vocoder.mels);
    Tensor moments = vae_encode(m, &a->vae, mel);
    trace_leave();
    return moments;
}

static bool run_encode(Run *run, Error *e)
{
    const AudioLdm *a = run->a;
    const HifiGan *g = &a->vocoder;
    const size_t top = run->m.used;
    float *samples = prepare_sound(run->r->init, g->rate, (size_t)run->frames * (size_t)g->hop, e);
    float *filters = samples
        ? mel_filters(BINS, g->mels, 0, g->rate / 2.0, g->rate, false, true, e) : NULL;
    bool ok = filters != NULL;
    if (ok) {
        Tensor moments = encode_sound(&run->m, a, samples, filters, run->frames);
        host_reads(moments);
        ok = sane(moments.at, tensor_count(moments), a->vae.weights.path, "encoding the sound", e);
        if (ok) vae_sample(&a->vae, moments, &run->rng, run->start);
    }
    free(filters);
    free(samples);
    run->m.used = top;
    return ok;
}

/* ---- stage 3: denoising ---------------------------------------------------------------------- */

/* The UNet on run->batch: [halves,h,w,c] in place. */
static void predict(Run *run, double t)
{
    const size_t top = run->m.used;
    trace_enter("step%d.unet", run->calls++);
    Tensor x = from_host(&run->m, run->halves, run->h, run->w, run->c, run->batch);
    to_host(unet(&run->m, &run->a->unet, x, t, (Tensor){ 0 }, run->class), run->batch);
    trace_leave();
    run->m.used = top;
}

/* e(x) + g (e(x, text) - e(x)): classifier-free guidance, a model made of one asked twice.
 *                                                                             Ho & Salimans 2022 */
static bool guided(void *self, const float *x, double t, float *prediction, Error *e)
{
    Run *run = self;
    const size_t c = (size_t)run->c, n = (size_t)run->h * (size_t)run->w;
    const float g = (float)run->r->guidance;
    char what[64];
    channels_last(x, c, n, run->batch);
    if (run->halves == 2) memcpy(run->batch + run->count, run->batch, run->count * sizeof(float));
    predict(run, t);
    for (size_t i = 0; run->halves == 2 && i < run->count; i++) {
        const float without = run->batch[i], with = run->batch[run->count + i];
        run->batch[i] = without + g * (with - without);
    }
    channels_first(run->batch, c, n, prediction);
    snprintf(what, sizeof what, "the prediction of step %d", run->calls);
    return sane(prediction, run->count, run->a->unet.weights.path, what, e);
}

static bool run_denoise(Run *run, Error *e)
{
    const AudioRequest *r = run->r;
    SamplerOptions o = { .method = r->method, .schedule = r->schedule, .steps = r->steps,
                         .eta = r->eta, .picture = r->init ? run->start : NULL,
                         .strength = r->strength, .rng = &run->rng, .count = run->count,
                         .each = r->step, .self = r->self };
    if (r->latents) memcpy(run->x, r->latents, run->count * sizeof(float));
    else randn(&run->rng, run->x, run->count);
    if (!sample(&run->a->schedule, &o, run->x, guided, run, e)) return false;
    if (r->latents_out) memcpy(r->latents_out, run->x, run->count * sizeof(float));
    return true;
}

/* ---- stage 4: mel ---------------------------------------------------------------------------- */

static bool run_decode(Run *run, Error *e)
{
    const Vae *v = &run->a->vae;
    const size_t n = (size_t)run->frames * (size_t)run->mels;
    run->m.used = 0;                                               /* the class has served */
    for (size_t i = 0; i < run->count; i++) run->x[i] /= (float)v->scaling;
    channels_last(run->x, (size_t)run->c, (size_t)run->h * (size_t)run->w, run->batch);
    trace_enter("vae");
    Tensor x = from_host(&run->m, 1, run->h, run->w, v->latents, run->batch);
    x = vae_decode(&run->m, v, x);                                             /* [1,F,mels,1] */
    trace_leave();
    to_host(x, run->mel);
    if (run->r->mel_out) memcpy(run->r->mel_out, run->mel, n * sizeof(float));
    run->m.used = 0;
    return sane(run->mel, n, v->weights.path, "decoding the mel", e);
}

/* ---- stage 5: samples ------------------------------------------------------------------------ */

static size_t samples_wanted(const AudioLdm *a, double seconds)
{
    return (size_t)(seconds * a->vocoder.rate + 0.5);
}

static bool run_vocoder(Run *run, Sound *out, Error *e)
{
    const HifiGan *g = &run->a->vocoder;
    const size_t n = samples_wanted(run->a, run->r->seconds);
    trace_enter("vocoder");
    Tensor x = from_host(&run->m, 1, run->frames, 1, run->mels, run->mel);
    x = hifigan(&run->m, g, x);                                                /* [1,N,1,1] */
    trace_leave();
    host_reads(x);
    if (!sane(x.at, n, g->weights.path, "samples", e)) return false;
    *out = (Sound){ .rate = g->rate, .channels = 1, .frames = n, .at = malloc(n * sizeof(float)),
                    .format = "AudioLDM" };
    if (!out->at) return fail(e, "out of memory: needed room for %zu samples", n);
    memcpy(out->at, x.at, n * sizeof(float));
    return true;
}

/* ---- the run --------------------------------------------------------------------------------- */

static int halves(const AudioRequest *r) { return r->guidance > 1 ? 2 : 1; }

/* Frames enough for the samples, a multiple of what the VAE halves. */
void audioldm_shape(const AudioLdm *a, const AudioRequest *r, int *c, int *h, int *w, int *frames,
                    int *mels)
{
    const size_t f = (size_t)a->vae.factor, each = f * (size_t)a->vocoder.hop;
    *c = a->vae.latents;
    *h = (int)((samples_wanted(a, r->seconds) + each - 1) / each);
    *w = a->vocoder.mels / a->vae.factor;
    *frames = *h * a->vae.factor;
    *mels = a->vocoder.mels;
}

static SamplerOptions sampler_options(const AudioRequest *r)
{
    return (SamplerOptions){ .method = r->method, .schedule = r->schedule, .steps = r->steps,
                             .eta = r->eta, .strength = r->strength,
                             .picture = r->init ? r->init->at : NULL };
}

/* Count what a stage does, as the run below does it. */
static void count_stage(Arena *m, const AudioLdm *a, const AudioRequest *r, int stage)
{
    int c, h, w, frames, mels;
    audioldm_shape(a, r, &c, &h, &w, &frames, &mels);
    Tensor class = { .b = halves(r), .h = 1, .w = 1, .c = a->text.dim };
    if (stage <= AUDIO_UNET) class = tensor(m, class.b, 1, 1, class.c);
    if (stage == AUDIO_TEXT)
        for (int i = 0; i < class.b; i++) {
            const size_t top = m->used;
            clap_text(m, &a->text, NULL, text_length(a));
            m->used = top;
        }
    if (stage == AUDIO_ENCODE && r->init) encode_sound(m, a, NULL, NULL, frames);
    if (stage == AUDIO_UNET)
        unet(m, &a->unet, tensor(m, class.b, h, w, c), 0, (Tensor){ 0 }, class);
    if (stage == AUDIO_DECODE) vae_decode(m, &a->vae, tensor(m, 1, h, w, c));
    if (stage == AUDIO_VOCODER) hifigan(m, &a->vocoder, tensor(m, 1, frames, 1, mels));
}

void audioldm_plan(const AudioLdm *a, const AudioRequest *r, AudioStage stages[AUDIO_STAGES])
{
    static const char *const names[AUDIO_STAGES] = { "text", "encode", "unet", "decode",
                                                     "vocoder" };
    const SamplerOptions o = sampler_options(r);
    SamplerPlan plan = { 0 };
    int calls = r->steps;
    if (sampler_plan(&plan, &a->schedule, &o, &(Error){ 0 })) calls = plan.end - plan.first;
    sampler_plan_free(&plan);
    for (int i = 0; i < AUDIO_STAGES; i++) {
        Arena m = { 0 };
        count_stage(&m, a, r, i);
        stages[i] = (AudioStage){ names[i], m.peak, m.macs, m.weight_bytes,
                                  i == AUDIO_UNET ? calls : i == AUDIO_ENCODE ? !!r->init : 1 };
        if (!stages[i].calls) stages[i].memory = 0;
    }
}

static bool run_open(Run *run, Error *e)
{
    AudioStage stages[AUDIO_STAGES];
    size_t need = 0;
    audioldm_plan(run->a, run->r, stages);
    for (int i = 0; i < AUDIO_STAGES; i++) need = zmax(need, stages[i].memory);
    if (run->r->max_memory && need > run->r->max_memory)
        return fail(e, "memory: this run needs %zu bytes for activations, the limit is %zu", need,
                    run->r->max_memory);
    const size_t n = run->count * sizeof(float),
                 mel = (size_t)run->frames * (size_t)run->mels * sizeof(float);
    run->x = malloc(n);
    run->start = malloc(n);
    run->batch = malloc(2 * n);
    run->mel = malloc(mel);
    if (!run->x || !run->start || !run->batch || !run->mel)
        return fail(e, "out of memory: needed %zu bytes for latents and mel", 4 * n + mel);
    return arena_open(&run->m, need, run->r->scratch, e);
}

/* The wall time of a stage, if anybody asked. */
static bool timed(Run *run, int stage, double start, bool ok)
{
    if (run->r->seconds_spent) run->r->seconds_spent[stage] = now() - start;
    return ok;
}

bool audioldm_generate(const AudioLdm *a, const AudioRequest *r, Sound *out, Error *e)
{
    Run run = { .a = a, .r = r, .halves = halves(r) };
    *out = (Sound){ 0 };
    if (!audioldm_check(a, r, e)) return false;
    audioldm_shape(a, r, &run.c, &run.h, &run.w, &run.frames, &run.mels);
    run.count = (size_t)run.c * (size_t)run.h * (size_t)run.w;
    rng_seed(&run.rng, r->seed);
    double t = now();
    bool ok = run_open(&run, e) && timed(&run, AUDIO_TEXT, t, run_text(&run, e));
    if (ok && r->init) { t = now(); ok = timed(&run, AUDIO_ENCODE, t, run_encode(&run, e)); }
    if (ok) { t = now(); ok = timed(&run, AUDIO_UNET, t, run_denoise(&run, e)); }
    if (ok) { t = now(); ok = timed(&run, AUDIO_DECODE, t, run_decode(&run, e)); }
    if (ok) { t = now(); ok = timed(&run, AUDIO_VOCODER, t, run_vocoder(&run, out, e)); }
    arena_close(&run.m);
    free(run.x);
    free(run.start);
    free(run.batch);
    free(run.mel);
    return ok;
}

/* ---- what is checked before ------------------------------------------------------------------ */

AudioRequest audioldm_defaults(const AudioLdm *a)
{
    const double frame = (double)a->vocoder.hop / a->vocoder.rate;
    return (AudioRequest){ .seconds = a->unet.size * a->vae.factor * frame, .steps = 10,
                           .guidance = 2.5, .strength = 0.75, .method = -1, .schedule = -1 };
}

/* A misuse: the same words, another exit code. */
static bool misused(Error *e)
{
    if (!strstr(e->text, ": out of memory")) e->code = 2;
    return false;
}

enum { LONGEST = 3600 };                               /* seconds: every count of values fits */

bool audioldm_check(const AudioLdm *a, const AudioRequest *r, Error *e)
{
    const SamplerOptions o = sampler_options(r);
    SamplerPlan plan = { 0 };
    if (!(r->seconds <= LONGEST && samples_wanted(a, r->seconds > 0 ? r->seconds : 0) >= 2)) {
        fail(e, "seconds: found %g, want from %g (two samples) to %d", r->seconds,
             2.0 / a->vocoder.rate, LONGEST);
        return misused(e);
    }
    if (r->init && (!r->init->at || r->init->frames < 1)) {
        fail(e, "sound to start from: found no samples");
        return misused(e);
    }
    bool ok = sampler_plan(&plan, &a->schedule, &o, e) || misused(e);
    sampler_plan_free(&plan);
    return ok;
}

char *audioldm_lost(const AudioLdm *a, const char *text, Error *e)
{
    Ids ids = { 0 };
    char *lost = NULL;
    const int room = text_length(a) - 1;                           /* before the end token */
    if (tok_encode(a->tok, text, strlen(text), &ids, e) && ids.count - 1 > room)
        lost = tok_decode(a->tok, ids.at + room, ids.count - 1 - room, e);
    ids_free(&ids);
    return lost;
}

/* ---- opening --------------------------------------------------------------------------------- */

static bool index_check(const char *folder, Error *e)
{
    char *path = path_join(folder, "model_index.json");
    Json *index = json_read(path, 1 << 20, e);
    const char *name = NULL;
    bool ok = index && json_string(index, "_class_name", &name, path, e);
    if (ok && (!name || strcmp(name, "AudioLDMPipeline")))
        ok = fail(e, "%s: _class_name: found %s, want AudioLDMPipeline", path,
                  name ? name : "nothing");
    json_free(index);
    free(path);
    return ok;
}

static bool schedule_open(AudioLdm *a, const char *folder, Error *e)
{
    char *path = path_join(folder, "scheduler/scheduler_config.json");
    Json *config = json_read(path, 1 << 20, e);
    bool ok = config && schedule_read(&a->schedule, config, path, e);
    json_free(config);
    free(path);
    return ok;
}

/* The parts must fit one another. */
static bool parts_fit(const AudioLdm *a, Error *e)
{
    const Unet *u = &a->unet;
    const Vae *v = &a->vae;
    if (!u->class_width)
        return fail(e, "%s: class_embed_type: found null, want simple_projection: this is no UNet "
                    "for sounds", u->weights.path);
    if (u->class_width != a->text.dim)
        return fail(e, "%s: projection_class_embeddings_input_dim: found %d, the text encoder "
                    "gives %d", u->weights.path, u->class_width, a->text.dim);
    if (u->in != v->latents || u->out != v->latents)
        return fail(e, "%s: in_channels and out_channels: found %d and %d, the VAE has %d latent "
                    "channels", u->weights.path, u->in, u->out, v->latents);
    if (v->pixels != 1)
        return fail(e, "%s: in_channels: found %d, want 1 for mel spectrograms", v->weights.path,
                    v->pixels);
    if (a->vocoder.mels % v->factor)
        return fail(e, "%s: model_in_dim: found %d, want a multiple of the VAE's %d",
                    a->vocoder.weights.path, a->vocoder.mels, v->factor);
    if (text_length(a) < 2)
        return fail(e, "%s: max_position_embeddings: found %d, want at least %d",
                    a->text_weights.path, a->text.positions, a->text.pad + 3);
    if (tok_vocabulary(a->tok) > a->text.vocabulary)
        return fail(e, "%s: tokenizer: found %d tokens, the text encoder has room for %d", a->path,
                    tok_vocabulary(a->tok), a->text.vocabulary);
    return true;
}

bool audioldm_open(AudioLdm *a, const char *folder, const char *tokenizer, Error *e)
{
    *a = (AudioLdm){ .path = path_join(folder, "") };
    char *tok = path_join(folder, "tokenizer"), *text = path_join(folder, "text_encoder");
    char *unet = path_join(folder, "unet"), *vae = path_join(folder, "vae");
    char *vocoder = path_join(folder, "vocoder");
    bool ok = a->path && tok && text && unet && vae && vocoder;
    if (!ok) fail(e, "%s: out of memory", folder);
    ok = ok && index_check(folder, e) && schedule_open(a, folder, e)
        && (a->tok = tok_open(tokenizer ? tokenizer : tok, e)) != NULL
        && clap_text_open(&a->text, &a->text_weights, text, e) && unet_open(&a->unet, unet, e)
        && vae_open(&a->vae, vae, e) && hifigan_open(&a->vocoder, vocoder, e) && parts_fit(a, e);
    free(tok);
    free(text);
    free(unet);
    free(vae);
    free(vocoder);
    if (!ok) audioldm_close(a);
    return ok;
}

void audioldm_close(AudioLdm *a)
{
    tok_close(a->tok);
    clap_text_close(&a->text);
    weights_close(&a->text_weights);
    unet_close(&a->unet);
    vae_close(&a->vae);
    hifigan_close(&a->vocoder);
    free(a->path);
    *a = (AudioLdm){ 0 };
}
