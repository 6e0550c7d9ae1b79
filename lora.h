/* lora.h - adapters: low-rank changes of a model's weights, and new words of its prompts.
 *                     (Hu et al. 2021; Gal et al. 2022; names of kohya's scripts and of diffusers)
 *
 *     Adapters a = { 0 };
 *     const LoraTarget into[] = { { "unet", &unet_weights }, { "text_encoder", &text_weights } };
 *     adapters_lora(&a, "style.safetensors", 0.8, into, 2, &e)
 *     adapters_word(&a, "cat-toy.safetensors", 768, 49408, &e)
 *     arena.changes = a.changes; arena.change_count = a.change_count;
 *     ... every product with a changed weight now reads W + 0.8 alpha / r * up down
 *     adapters_close(&a);
 *
 * The model stays as it lies in its file: the change is added to each panel of a weight when the
 * panel is read, so no copy of a layer ever exists.  Several adapters add up in the order given.
 *
 * LoRA: modules by their path in diffusers ("unet.down_blocks.0...to_q.lora_A.weight", with .lora.,
 * .lora_linear_layer. or under .processor), or by kohya's ("lora_unet_down_blocks_0_..._to_q"), for
 * linear layers and convolutions.  alpha of kohya's files and of diffusers' metadata counts.
 * Refused in words: LoHa, LoKr, DoRA, Tucker's middle, a module that the model does not have.
 * A new word: vectors [n,width] or [width] under the word's own name (diffusers), or "emb_params",
 * where the file's name is the word (A1111). */
#ifndef LORA_H
#define LORA_H
#include "base.h"
#include "io.h"
#include "tensor.h"
#include "tok.h"

/* A part of a model, and the name that adapters know it by: "unet" or "text_encoder". */
typedef struct { const char *name; const Weights *weights; } LoraTarget;

/* The ids of a word's vectors are first .. first + vectors - 1, beyond the vocabulary. */
typedef struct { char *text; int first, vectors; } NewWord;

typedef struct {
    Weights *files; int file_count;
    Change *changes; int change_count;     /* sorted by weight, then in the order given */
    NewWord *words; int word_count;
    float *vectors; int vector_count;      /* of all words: [vector_count][width] */
} Adapters;

void adapters_close(Adapters *a);
/* Add the LoRA of a file, times scale.  On failure nothing of it stays. */
bool adapters_lora(Adapters *a, const char *path, double scale, const LoraTarget *into, int count,
                   Error *e);
/* tok_encode of a text where each new word gives the ids of its vectors. */
bool adapters_encode(const Adapters *a, const Tok *t, const char *text, Ids *out, Error *e);
/* Add the new word of a file; width: of the text encoder, vocabulary: ids that are taken.  Two
 * files may not have one word. */
bool adapters_word(Adapters *a, const char *path, int width, int vocabulary, Error *e);

#endif
