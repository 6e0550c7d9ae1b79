/* sd.h - Stable Diffusion: text to picture.
 *                              (diffusers StableDiffusionPipeline, its Img2Img and Inpaint sisters)
 *
 *     Sd sd;
 *     if (!sd_open(&sd, "stable-diffusion-v1-5", NULL, &e)) ...
 *     SdRequest r = sd_defaults(&sd);
 *     r.prompt = "A serene lake"; r.seed = 7;
 *     Picture p;
 *     if (sd_generate(&sd, &r, &p, &e)) ...        the picture that diffusers gives for seed 7
 *     sd_close(&sd);
 *
 * Everything a run needs is checked before anything is computed; a run that fails makes nothing. */
#ifndef SD_H
#define SD_H
#include "base.h"
#include "clip.h"
#include "ldm.h"
#include "lora.h"
#include "picture.h"
#include "prompt.h"
#include "sampler.h"

typedef struct {
    char *path;
    Tok *tok;
    Weights text_weights;
    ClipText text;
    Unet unet;
    Vae vae;
    Schedule schedule, repaint;       /* scheduler_config.json, as used without and with a mask */
    bool inpaints;                    /* the UNet also sees the mask and what is kept */
    int size;                         /* pixels a side that the model was made for */
    Adapters adapters;
} Sd;

/* A diffusers folder: model_index.json, tokenizer/, text_encoder/, unet/, vae/, scheduler/, also of
 * a latent consistency model.  Or a checkpoint in one file, in the original names (original.h),
 * with a tokenizer beside it.  tokenizer: another folder to read it from, or NULL. */
bool sd_open(Sd *s, const char *folder, const char *tokenizer, Error *e);
void sd_close(Sd *s);

/* Adapters of every run from now on: a LoRA for UNet and text encoder, times scale; a new word of
 * prompts (textual inversion). */
bool sd_lora(Sd *s, const char *path, double scale, Error *e);
bool sd_word(Sd *s, const char *path, Error *e);

/* Another VAE, from its own folder; of the same latents. */
bool sd_vae(Sd *s, const char *folder, Error *e);

/* Called after every call of the UNet with the latents [C][H/f][W/f] and the clean ones they
 * promise so far; false stops the run. */
typedef bool SdStep(void *self, int call, int calls, const float *latents, const float *x0);

typedef struct {
    const char *prompt, *negative;    /* UTF-8; NULL: empty */
    bool weighting;                   /* brackets weigh, long texts go on: prompt.h */
    int width, height;                /* pixels, multiples of the VAE's factor */
    int steps;
    double guidance;                  /* 1 and below: off, the negative prompt then has no effect */
    double eta, strength;             /* strength counts with a picture to start from */
    int method, schedule;             /* of sampler.h */
    const double *timesteps, *sigmas; /* in place of a schedule: [steps], [steps + 1]; or NULL */
    double rescale;                   /* of guidance, 0..1 */
    Noise noise;                      /* whose random numbers */
    int noise_w, noise_h;             /* in the middle the noise of a picture of that size; or 0; */
                                      /* of no use with latents */
    int clip_skip;                    /* diffusers': layers left out, for the prompt */
    uint64_t seed;
    const Picture *init;              /* picture to picture; already width x height */
    const Picture *mask;              /* the same size: what is white in it is repainted, or NULL */
    bool tiles;                       /* edges that fit one another */
    /* the noise turned towards that of another seed, 0: not, 1: all the way */
    uint64_t variation_seed; double variation;
    /* unit normal [C][H/f][W/f] instead of the seed's noise, or NULL */
    const float *latents;
    /* [embed_tokens][text width] instead of texts, or NULL */
    const float *prompt_embeds, *negative_embeds;
    int embed_tokens;
    /* after each call of the UNet: progress, preview, cancel; may be NULL */
    SdStep *step; void *self;
    size_t max_memory;                /* bytes; 0: no limit */
    const char *scratch;              /* activations in this file; NULL: in memory */
    /* if set: receives the final latents, scaled as the UNet sees them */
    float *latents_out;
    /* if set: receives where each of these words was looked at, [words][H/f][W/f]: the share of
     * the attention, the mean over heads, layers and calls, each layer's map resized */
    float *heat; const PromptWord *words; int word_count;
    double *seconds;                  /* if set: receives SD_STAGES wall times */
} SdRequest;

/* The model's size, 50 steps, guidance 7.5, the file's sampler, eta 0. */
SdRequest sd_defaults(const Sd *s);

/* Refuse what cannot work, naming the nearest value that does; code 2 in e. */
bool sd_check(const Sd *s, const SdRequest *r, Error *e);

/* What a stage of the run needs. */
typedef struct { const char *name; size_t memory; double macs, weight_bytes; int calls; } SdStage;
enum { SD_TEXT, SD_ENCODE, SD_UNET, SD_DECODE, SD_STAGES };
/* With mask set, the file's schedule as the Inpaint pipeline takes it. */
const Schedule *sd_schedule(const Sd *s, const SdRequest *r);
/* What the request says to the sampler, for a plan. */
SamplerOptions sd_sampler(const SdRequest *r);
void sd_plan(const Sd *s, const SdRequest *r, SdStage stages[SD_STAGES]);

/* The texts of r as the text encoder gets them, both in as many chunks: [0] the negative prompt, if
 * it counts, [1] the prompt; empty where embeddings stand for them.  The caller frees both. */
bool sd_prompts(const Sd *s, const SdRequest *r, Prompt out[2], Error *e);
/* The words of the prompt, freed with words_free. */
bool sd_words(const Sd *s, const SdRequest *r, PromptWord **out, int *count, Error *e);

bool sd_generate(const Sd *s, const SdRequest *r, Picture *out, Error *e);

#endif
