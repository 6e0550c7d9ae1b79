/* tok.h - byte-level BPE: text to token ids, as the tokenizers of transformers 5 give them.
 *
 *     Tok *t = tok_open("clip-vit-base-patch32", &e);
 *     Ids ids;
 *     tok_encode(t, "a photo of a cat", 16, &ids, &e);    49406 320 1125 539 320 2368 49407
 *     ids_free(&ids);  tok_close(t);
 *
 * One BPE core, front ends by model: CLIP (NFC, white space, lower case, its own pattern, </w>) and
 * RoBERTa (GPT-2's pattern, nothing normalised).  tokenizer_class in tokenizer_config.json says
 * which; without it, a vocabulary whose bytes also come with </w> is CLIP's.
 *
 * Files: tokenizer.json, which wins where both are, or vocab.json and merges.txt; and beside either
 * tokenizer_config.json, special_tokens_map.json and added_tokens.json, each optional.  The special
 * tokens they name are found inside a text too: SD 2 pads with "!", so there every "!" is id 0.
 *
 * Text is UTF-8; each byte that is not part of it is taken as U+FFFD, so every input has ids.
 *
 * As the reference does: of a merge given twice the later rank counts; an id may have no token; a
 * byte that the vocabulary lacks is unk_token (CLIP) or dropped (RoBERTa).  Refused, where it would
 * go on: two tokens with one id, an id that is no whole number below 2^21, an added token whose id
 * is neither the vocabulary's nor the next, a missing start, end or padding token, the vocabulary
 * of the other model, a folder that pads or cuts on the left, single_word. */
#ifndef TOK_H
#define TOK_H
#include "base.h"
#include "io.h"

typedef struct Tok Tok;
typedef struct { int *at; int count; } Ids;

Tok *tok_open(const char *folder, Error *e);
void tok_close(Tok *t);

/* All ids of text, start and end token included, nothing cut.  Fails for more than 2^28 bytes.  The
 * caller frees out with ids_free.  O(n log n), for a text without a space too. */
bool tok_encode(const Tok *t, const char *text, size_t n, Ids *out, Error *e);
void ids_free(Ids *ids);

/* Cut to length (the end token stays, last), or pad to length with the model's padding token; in
 * place of ids, which is reallocated.  *lost is how many of the text were cut.  Fails below 2. */
bool tok_fit(const Tok *t, Ids *ids, int length, int *lost, Error *e);

int tok_vocabulary(const Tok *t);                              /* ids are below this */
int tok_start(const Tok *t), tok_end(const Tok *t), tok_padding(const Tok *t);
void tok_pad_with(Tok *t, int id);                             /* another padding token */
/* model_max_length of tokenizer_config.json, or 0 when the folder does not say. */
int tok_max_length(const Tok *t);

/* The piece of an id as it stands in the vocabulary ("photo</w>"), NULL if no token has it. */
const char *tok_piece(const Tok *t, int id);
/* Text of count ids, special tokens left out; for showing what was cut.  Caller frees. */
char *tok_decode(const Tok *t, const int *ids, int count, Error *e);

#endif
