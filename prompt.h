/* prompt.h - from a prompt to what the text encoder reads: ids, weights, chunks, words.
 *                        (weights and chunks: the syntax of AUTOMATIC1111's web interface)
 *
 *     Prompt p;
 *     if (!prompt_read(&p, tok, &adapters, "a (red:1.3) cat BREAK snow", 77, true, "prompt", &e))
 *     p.ids [2][77], p.weights 1.3 for "red", else 1
 *     prompt_weigh(&p, z, 768);                    z [2*77][768]: what the encoder made of the ids
 *     prompt_free(&p);
 *
 * Without weighting: the tokens of the text, cut or padded to one chunk, as diffusers takes them.
 *
 * With it: (word) weighs 1.1 and [word] 1/1.1, (word:1.3) as it says; brackets nest, and one that
 * stays open ends with the text.  \( \) \[ \] \\ are the signs themselves.  BREAK, a word of its
 * own, ends a chunk.  A text longer than a chunk goes on in the next; where one of the last 20
 * tokens of a full chunk is a comma, the next begins behind it; a new word of an adapter stays
 * whole.  Each chunk has a start and an end token and is padded; their hidden states stand one
 * behind the other.  Weights multiply the hidden states, whose mean over the chunk is kept.
 *
 * Refused, because it would mean something else there: [a:b:0.5] and [a|b], which change the prompt
 * between steps, and <lora:name:1>.  As text, where the reference trips over it: BREAK in brackets
 * is still a BREAK, and a weight that is no number belongs to the words. */
#ifndef PROMPT_H
#define PROMPT_H
#include "base.h"
#include "lora.h"
#include "tok.h"

typedef struct {
    int length, chunks;                    /* tokens of a chunk, start and end among them */
    int *ids; float *weights;              /* [chunks][length] each */
    int *used;                             /* [chunks]: tokens of the text in it */
    int tokens;                            /* of the whole text, what was cut off among them */
    char *cut;                             /* that, as text; NULL: nothing */
} Prompt;

/* text: UTF-8, or NULL: empty.  where names it in messages. */
bool prompt_read(Prompt *p, const Tok *t, const Adapters *a, const char *text, int length,
                 bool weighting, const char *where, Error *e);
void prompt_free(Prompt *p);
/* As many chunks as that, the new ones empty. */
bool prompt_pad(Prompt *p, const Tok *t, int chunks, Error *e);
/* Multiply hidden states z [chunks*length][width] by the weights. */
void prompt_weigh(const Prompt *p, float *z, int width);
/* The text without brackets, for who does not know them; the caller frees. */
char *prompt_plain(const char *text, Error *e);

/* A word: tokens first .. end - 1 of all that the text encoder gets. */
typedef struct { char *text; int first, end; } PromptWord;
/* The words that fit, as the tokenizer cuts them; a new word of an adapter is one.  The caller
 * frees with words_free. */
bool prompt_words(const Prompt *p, const Tok *t, const Adapters *a, PromptWord **out, int *count,
                  Error *e);
void words_free(PromptWord *words, int count);

#endif
