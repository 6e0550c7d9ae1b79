/* audioldm.h - AudioLDM: text to sound.            (diffusers AudioLDMPipeline; Liu et al. 2023)
 *
 *     AudioLdm a;
 *     if (!audioldm_open(&a, "audioldm-s-full-v2", NULL, &e)) ...
 *     AudioRequest r = audioldm_defaults(&a);
 *     r.prompt = "Un marché animé avec des conversations."; r.seconds = 10; r.seed = 7;
 *     Sound s;
 *     if (audioldm_generate(&a, &r, &s, &e)) ...     the sound that diffusers gives for seed 7
 *
 * Text by CLAP's text tower, its embedding (divided by its length) as class embedding of a UNet
 * over mel latents, the same samplers as for pictures, a mel VAE, and HiFi-GAN from mel to samples.
 * The length is exact: round(seconds * rate) samples.
 *
 * Where the reference cuts: it takes floor(seconds / hop) frames, so that some lengths come out
 * short; here enough frames are made, then cut.  It cuts a negative prompt to the width of the
 * embedding; here both texts are cut to what the text tower takes.
 *
 * Three random events of the original program are not imitated: it drops the prompt once in ten
 * runs, draws the same lottery on both sides of its ranking, and scores a random crop of sounds
 * longer than CLAP's window. */
#ifndef AUDIOLDM_H
#define AUDIOLDM_H
#include "base.h"
#include "clap.h"
#include "hifigan.h"
#include "ldm.h"
#include "sampler.h"
#include "wav.h"

typedef struct {
    char *path;
    Tok *tok;
    Weights text_weights;
    ClapText text;
    Unet unet;
    Vae vae;
    HifiGan vocoder;
    Schedule schedule;
} AudioLdm;

/* A diffusers folder: model_index.json, tokenizer/, text_encoder/, unet/, vae/, vocoder/,
 * scheduler/.  tokenizer: another folder to read it from, or NULL. */
bool audioldm_open(AudioLdm *a, const char *folder, const char *tokenizer, Error *e);
void audioldm_close(AudioLdm *a);

/* Called after every call of the UNet with the latents [C][h][w] and the clean ones they promise so
 * far; false stops the run. */
typedef bool AudioStep(void *self, int call, int calls, const float *latents, const float *x0);

typedef struct {
    const char *prompt, *negative;         /* UTF-8; NULL: empty */
    double seconds;
    int steps;
    double guidance;                       /* 1 and below: off */
    double eta, strength;                  /* strength counts with a sound to start from */
    int method, schedule;                  /* of sampler.h */
    uint64_t seed;
    /* style transfer: a sound of any rate and channels, cut or filled with silence to seconds; its
     * mel, encoded, is where the noise is added */
    const Sound *init;
    const float *latents;                  /* unit normal [C][frames/f][mels/f], or NULL */
    /* [dim] of any length, instead of texts, or NULL; divided by their lengths like texts' */
    const float *prompt_embeds, *negative_embeds;
    AudioStep *step; void *self;
    size_t max_memory;                     /* bytes; 0: no limit */
    const char *scratch;                   /* activations in this file; NULL: in memory */
    float *latents_out;                    /* if set: receives the final latents */
    float *mel_out;                        /* if set: receives the mel, [frames][mels] */
    double *seconds_spent;                 /* if set: receives AUDIO_STAGES wall times */
} AudioRequest;

/* 5.12 s, 10 steps, guidance 2.5, the file's sampler: diffusers' defaults. */
AudioRequest audioldm_defaults(const AudioLdm *a);
/* Refuse what cannot work, naming what would; code 2 in e. */
bool audioldm_check(const AudioLdm *a, const AudioRequest *r, Error *e);

/* Shape of the latents of a request: [C][h][w]; and of its mel: [frames][mels]. */
void audioldm_shape(const AudioLdm *a, const AudioRequest *r, int *c, int *h, int *w, int *frames,
                    int *mels);

/* What a stage of the run needs. */
typedef struct {
    const char *name;
    size_t memory;
    double macs, weight_bytes;
    int calls;
} AudioStage;
enum { AUDIO_TEXT, AUDIO_ENCODE, AUDIO_UNET, AUDIO_DECODE, AUDIO_VOCODER, AUDIO_STAGES };
void audioldm_plan(const AudioLdm *a, const AudioRequest *r, AudioStage stages[AUDIO_STAGES]);

/* Tokens of text that do not fit the text tower, as text the caller frees; NULL when all fit. */
char *audioldm_lost(const AudioLdm *a, const char *text, Error *e);

/* out: one channel at the vocoder's rate, round(seconds * rate) samples. */
bool audioldm_generate(const AudioLdm *a, const AudioRequest *r, Sound *out, Error *e);

#endif
