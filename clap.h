/* clap.h - CLAP: text and sound in one space.    (transformers ClapModel; Wu et al. 2023)
 *
 *     Clap c;
 *     if (!clap_open(&c, "clap-htsat-unfused", NULL, &e)) ...               a ClapModel folder
 *     Arena m; arena_open(&m, clap_memory(&c), NULL, &e);
 *     clap_embed_text(&c, &m, "a dog barks", text, NULL, &e);               float[c.dim]
 *     clap_embed_sound(&c, &m, &sound, audio, &e);
 *     cosine(text, audio, c.dim) * c.logit_scale                   a logit, of sounds against texts
 *
 * The text tower is RoBERTa, the sound tower HTSAT: a Swin transformer over the log-mel
 * spectrogram.  AudioLDM needs the text tower alone: clap_text_open opens a
 * ClapTextModelWithProjection folder. */
#ifndef CLAP_H
#define CLAP_H
#include "base.h"
#include "io.h"
#include "tensor.h"
#include "tok.h"
#include "wav.h"

typedef struct { Linear q, k, v, out, up, down; Norm norm1, norm2; } RobertaLayer;

typedef struct {
    int vocabulary, positions, pad, width, heads, mlp, layers, dim;
    Act act, projection_act;
    float eps;
    Weight tokens, places, types;         /* [vocabulary,width], [positions,width], [types,width] */
    Norm norm;
    RobertaLayer *layer;
    Linear pooler, project1, project2;
} ClapText;

typedef struct ClapAudio ClapAudio;        /* HTSAT, laid open in clap.c */

typedef struct {
    Weights weights;
    Tok *tok;
    ClapText text;
    ClapAudio *audio;
    int dim;
    double logit_scale;                    /* e^logit_scale_a: what scores of sounds use */
} Clap;

bool clap_open(Clap *c, const char *folder, const char *tokenizer, Error *e);
void clap_close(Clap *c);
/* Bytes of arena that the largest single text or sound needs. */
size_t clap_memory(const Clap *c);
/* One window of sound, from its log-mel spectrogram of clap_mel_size values on the host
 * (NULL where m only counts) -> [1,1,1,dim]. */
size_t clap_mel_size(const Clap *c);
Tensor clap_sound(Arena *m, const Clap *c, const float *mel);

/* ClapTextModelWithProjection.text_embeds, and ClapModel's audio half before it is normalised;
 * out[dim]. lost: tokens of the text that did not fit, may be NULL. A sound of any rate and
 * channels is averaged to mono and resampled to the model's rate.  One longer than the model's
 * window is heard in whole windows side by side, the last one moved back to the end, and its
 * embedding is the mean of theirs, each divided by its length: the same score on every run. */
bool clap_embed_text(const Clap *c, Arena *m, const char *text, float *out, int *lost, Error *e);
bool clap_embed_sound(const Clap *c, Arena *m, const Sound *s, float *out, Error *e);

/* ---- the text tower alone -------------------------------------------------------------------- */

/* A ClapTextModelWithProjection folder (config.json, model.safetensors). */
bool clap_text_open(ClapText *t, Weights *w, const char *folder, Error *e);
void clap_text_close(ClapText *t);
/* ids [n] without padding -> projected text_embeds [1,1,1,dim], not normalised. */
Tensor clap_text(Arena *m, const ClapText *t, const int *ids, int n);

/* ---- spectrograms ---------------------------------------------------------------------------- */

/* A bank of triangular mel filters, [bins][mels], htk or slaney scale, slaney norm or none
 * (transformers audio_utils.mel_filter_bank).  Caller frees. */
float *mel_filters(int bins, int mels, double low, double high, int rate, bool htk, bool norm,
                   Error *e);
/* Log-mel spectrogram [frames][mels] in dB: periodic Hann, reflect padding, power, floor 1e-10, 10
 * log10 (transformers audio_utils.spectrogram).  frames = n / hop + 1.  Caller frees. */
float *mel_spectrogram(const float *x, size_t n, int window, int hop, const float *filters,
                       int mels, int *frames, Error *e);

#endif
