/* clip.h - CLIP: text and pictures in one space.      (transformers CLIPModel; Radford et al. 2021)
 *
 *     Clip c;
 *     if (!clip_open(&c, "clip-vit-base-patch32", &e)) ...                   a transformers folder
 *     Arena m; arena_open(&m, clip_memory(&c), NULL, &e);
 *     clip_embed_text(&c, &m, "a photo of a cat", text, NULL, &e);           float[c.dim]
 *     clip_embed_picture(&c, &m, &picture, image, &e);
 *     cosine(text, image, c.dim) * c.logit_scale                             a logit
 *     clip_close(&c);
 *
 * Widths, depths, patches, activations come from config.json; nothing is assumed that it does not
 * say.  The text tower stands alone for Stable Diffusion: open it from its own folder with
 * clip_text_open. */
#ifndef CLIP_H
#define CLIP_H
#include "base.h"
#include "io.h"
#include "picture.h"
#include "tensor.h"
#include "tok.h"

typedef struct { Norm norm1, norm2; Linear q, k, v, out, fc1, fc2; } ClipLayer;

/* A stack of pre-norm transformer layers: both towers are one. */
typedef struct { int width, heads, mlp, layers; Act act; float eps; ClipLayer *layer; } ClipEncoder;

typedef struct {
    ClipEncoder encoder;
    /* end: the token that pooling looks for; 2 means argmax of the ids */
    int vocabulary, positions, end;
    Weight tokens, places;                 /* [vocabulary,width], [positions,width] */
    Weight added;                          /* of ids from vocabulary on; at NULL: there are none */
    Norm norm;                             /* after the last layer */
} ClipText;

typedef struct {
    ClipEncoder encoder;
    int size, patch;                       /* pixels a side */
    Weight class, places;                  /* [width], [1 + (size/patch)^2, width] */
    Linear patches;                        /* [width,3,patch,patch], no bias */
    Norm before, after;
} ClipVision;

/* preprocessor_config.json: resize the short side (0: to h x w), crop the centre,
 * (x - mean) / std. */
typedef struct {
    int side, h, w, crop_h, crop_w;
    bool resize, crop;
    bool even;                             /* open_clip: half a pixel goes to the even side */
    Filter filter;
    double mean[3], std[3];
} ClipPrepare;

typedef struct {
    Weights weights;                       /* weights.path names the model */
    Tok *tok;
    ClipText text;
    ClipVision vision;
    ClipPrepare prepare;
    Linear text_projection, image_projection;
    Weight logit_weight;
    int dim;
    double logit_scale;                    /* e^logit_scale of the file */
} Clip;

/* Open a CLIPModel folder: config.json, model.safetensors (or shards), tokenizer, preprocessor; or
 * an open_clip folder (original.h).  On failure nothing stays open.  The tokenizer may come from
 * another folder; NULL: the model's own. */
bool clip_open(Clip *c, const char *folder, const char *tokenizer, Error *e);
void clip_close(Clip *c);
/* Bytes of arena that the largest single text or picture needs. */
size_t clip_memory(const Clip *c);
/* Count the arithmetic of one picture: m has no memory. */
void clip_count_picture(const Clip *c, Arena *m);

/* CLIPModel.get_text_features / get_image_features: projected, not normalised; out[dim].
 * lost: how many tokens of the text did not fit, may be NULL.  The picture is resized in place. */
bool clip_embed_text(const Clip *c, Arena *m, const char *text, float *out, int *lost, Error *e);
bool clip_embed_picture(const Clip *c, Arena *m, Picture *p, float *out, Error *e);

/* CLIPImageProcessor: pixels [crop_h][crop_w][3], normalised; p is resized in place. */
bool clip_prepare(const Clip *c, Picture *p, float *pixels, Error *e);

double cosine(const float *a, const float *b, int n);
/* Divide by the length; a vector of zeros stays. */
void normalize(float *a, int n);
/* p[i] = e^x[i] / sum, for a few logits on the host. */
void softmax(const double *x, int n, double *p);

/* ---- the towers ------------------------------------------------------------------------------ */

/* A CLIPTextModel folder (config.json and model.safetensors, with or without the prefix
 * text_model.). */
bool clip_text_open(ClipText *t, Weights *w, const char *folder, Error *e);
/* The same of tensors that are open; where: what messages call the config. */
bool clip_text_open_as(ClipText *t, Weights *w, const Json *config, const char *where, Error *e);
void clip_text_close(ClipText *t);
/* CLIPTextModel: ids [b][n] -> last_hidden_state [b,n,1,width].  skip: how many layers are left out
 * before the final norm (diffusers' clip_skip). */
Tensor clip_text(Arena *m, const ClipText *t, const int *ids, int b, int n, int skip);
/* CLIPVisionModel, pooled: pixels [b,size,size,3] -> [b,1,1,width]. */
Tensor clip_vision(Arena *m, const ClipVision *v, Tensor pixels);

#endif
