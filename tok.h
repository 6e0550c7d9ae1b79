/* tok.h - byte-level BPE: text to token ids, as the tokenizers of transformers 5 give them.
 *
 *     Tok *t = tok_open("clip-vit-base-patch32", &e);        vocab.json + merges.txt, or tokenizer.json
 *     Ids ids;
 *     tok_encode(t, "a photo of a cat", 16, &ids, &e);        49406 320 1125 539 320 2368 49407
 *     ids_free(&ids);  tok_close(t);
 *
 * One BPE core, front ends by model: CLIP (NFC, white space, lower case, its own pattern, </w>) and
 * RoBERTa (GPT-2's pattern, nothing normalised).  Which one a folder needs is read from its files.
 * Text is UTF-8; bytes that are not are taken as U+FFFD each, so every input has ids. */
#ifndef TOK_H
#define TOK_H
#include "base.h"
#include "io.h"

typedef struct Tok Tok;
typedef struct { int *at; int count; } Ids;

Tok *tok_open(const char *folder, Error *e);
void tok_close(Tok *t);

/* All ids of text, start and end token included, nothing cut.  The caller frees out with ids_free. */
bool tok_encode(const Tok *t, const char *text, size_t n, Ids *out, Error *e);
void ids_free(Ids *ids);

/* Cut to length (the end token stays, last), or pad to length with the model's padding token; in place
 * of ids, which is reallocated.  Returns how many ids of the text were cut in *lost. */
bool tok_fit(const Tok *t, Ids *ids, int length, int *lost, Error *e);

int tok_vocabulary(const Tok *t);                              /* ids are below this */
int tok_start(const Tok *t), tok_end(const Tok *t), tok_padding(const Tok *t);
/* model_max_length of tokenizer_config.json, or 0 when the folder does not say. */
int tok_max_length(const Tok *t);

/* The piece of an id as it stands in the vocabulary ("photo</w>"), NULL out of range. */
const char *tok_piece(const Tok *t, int id);
/* Text of count ids, special tokens left out; for showing what was cut.  Caller frees. */
char *tok_decode(const Tok *t, const int *ids, int count, Error *e);

#endif
