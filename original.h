/* original.h - layouts: checkpoints in the names that their authors gave, bound as they lie.
 *                   (CompVis and Stability AI: latent-diffusion, sgm; OpenAI and LAION: open_clip)
 *
 *     Original o;
 *     if (original_open(&o, "v1-5-pruned-emaonly.safetensors", &e)) ...
 *     o.unet.weights holds down_blocks.0.resnets.0.conv1.weight, which the file calls
 *     model.diffusion_model.input_blocks.1.0.in_layers.2.weight; o.unet.config is its config.json
 *
 * Nothing is converted: a view of the file's map has the names of diffusers and transformers; a
 * fused in_proj is three views of its thirds.  What stands transposed (open_clip's two projections)
 * is copied.  A file is known by its tensors, never by its name.
 *
 * One file for all of Stable Diffusion 1.x or 2.x:
 *   model.diffusion_model.*                        the UNet
 *   first_stage_model.*                            the VAE
 *   cond_stage_model.transformer.*                 SD 1.x: CLIP as transformers names it, with and
 *                                                  without text_model.
 *   cond_stage_model.model.*, conditioner.embedders.0.model.*
 *                                                  SD 2.x: open_clip; its last layer is of no use,
 *                                                  and padding is token 0
 *   model_ema.*, betas, alphas_cumprod, ...        of no use
 *
 * Configs are those of a diffusers folder around the file (unet/config.json, vae/config.json,
 * text_encoder/config.json, scheduler/scheduler_config.json), each where it is there.  Else widths,
 * depths and channels are read from the shapes, and what shapes do not tell is that of the
 * published models: 32 groups; SD 1.x: 8 heads, quick_gelu, PNDM; SD 2.x: heads of 64, gelu, DDIM;
 * text heads of 64; VAE scale 0.18215.
 *
 * Does it predict noise or v?  In this order: scheduler_config.json; the metadata
 * modelspec.prediction_type; a tensor v_pred (v); SD 1.x, and inpainting (9 channels): noise; else
 * asks_unet is set, and who opens the UNet asks it (sd.c).  diffusers goes by global_step, which
 * safetensors do not carry, and takes v for every other SD 2.x; so the 512 base model comes out
 * wrong there. */
#ifndef ORIGINAL_H
#define ORIGINAL_H
#include "base.h"
#include "io.h"

/* What a file of tensors is: "a Stable Diffusion 1.x checkpoint", NULL where nothing is recognised.
 * sd: 1 or 2 where it is one that original_open takes.  hint: what to do with another, or "". */
typedef struct { const char *what, *hint; int sd; } Family;
Family original_family(const Weights *w);

/* Where a tensor of a checkpoint belongs. */
typedef enum { IN_TEXT, IN_UNET, IN_VAE, IN_EMA, IN_SCHEDULE, IN_NOTHING } OriginalPlace;
OriginalPlace original_place(const Entry *t);

/* A part: its tensors, its config, and what the config is called in messages. */
typedef struct { Weights weights; Json *config; char *where; } OriginalPart;

typedef struct {
    int sd;                                /* 1 or 2 */
    OriginalPart text, unet, vae;
    Json *schedule; char *schedule_where;  /* schedule is NULL while asks_unet */
    bool asks_unet;
} Original;

bool original_open(Original *o, const char *path, Error *e);
void original_close(Original *o);
/* The schedule of SD sd for noise, or for v; the caller frees. */
Json *original_schedule(int sd, bool v, Error *e);
/* The folder of the tokenizer that lies beside the file: tokenizer/ there, or there itself.  The
 * caller frees; NULL: there is none. */
char *original_tokenizer(const char *path);

/* An open_clip folder: open_clip_config.json and open_clip_model.safetensors; false for one that
 * also holds a transformers model. */
bool open_clip_is(const char *folder);
/* Its tensors as transformers names them, its config as config.json and preprocessor_config.json.
 * The caller frees. */
bool open_clip_open(Weights *w, Json **config, Json **prepare, const char *folder, Error *e);

#endif
