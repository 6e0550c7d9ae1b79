/* fusion.h - what no single model does: say what a picture shows and a sound lets hear, choose the
 * sounds of a picture, judge whether text, picture and sound agree.
 *
 *     Fusion f;
 *     fusion_open(&f, "weights/tiny/clip", "weights/tiny/clap", NULL, NULL, &e);
 *     phrases_folder(&f.phrases, "weights/phrases", &e);
 *     Caption c;  caption_picture(&f, &picture, CONFIDENCE, &c, &e);
 *     c.sentence[FRENCH]                            "Une cabane dans les bois, sous la neige."
 *     Hearing h;  caption_sound(&f, &sound, HEARD_FROM, &h, &e);
 *     h.sentence[ENGLISH]                           "[Rain, a dog barking]"
 *     Soundscape s;  soundscape_choose(&f, &c, 4, &s, &e);      which sounds belong to the picture
 *     Verdict v;  check_agree(&f, "a dog in the rain", &picture, &sound, AGREE_FROM, &v, &e);
 *     v.agree, v.pair[TEXT_PICTURE].percentile
 *     caption_free(&c);  hearing_free(&h);  soundscape_free(&s);  fusion_close(&f);
 *
 * The words come from phrase banks, text files that anybody can extend; weights/phrases/README.md
 * is their manual.  CLIP or CLAP ranks the phrases of a bank, so a caption says nothing that a
 * person did not write, in as many languages as the bank has.
 *
 * Which model joins what.  Text and picture: CLIP.  Text and sound: CLAP.  No model joins picture
 * and sound, nor the text of a scene ("a cabin in the woods") and a sound that it does not name
 * (the fire in it); both go through the bank: CLIP says which phrases the picture or text means,
 * the bank which sounds belong to them, CLAP whether those are heard.
 *
 * Where a pair stands.  A cosine says little by itself: CLIP gives a right pair 0.3 and a wrong one
 * 0.2, another model 0.8 and 0.6, French less than English.  So each pair is ranked among pairs
 * that do not belong together: the same picture or sound with sentences made from the bank, in the
 * language of the text, drawn by a fixed rule, without those that say what the text says.  Were the
 * text one more of those sentences, its rank would be any with equal chance; a pair that does not
 * belong together thus passes AGREE_FROM = 80 once in five.  Three things agree where the mean of
 * their pairs does: one weak pair may be made up for, which a wrong text or sound, weak in two of
 * three, cannot.  This needs no stored data, gives the same on every run, and fits every model.
 *
 * Same bytes at any thread count: sums here run on the host, in double, in one order; ties go to
 * the phrase that stands first. */
#ifndef FUSION_H
#define FUSION_H
#include "base.h"
#include "clap.h"
#include "clip.h"
#include "picture.h"
#include "wav.h"

/* ---- phrases --------------------------------------------------------------------------------- */

typedef enum { ENGLISH, FRENCH, LANGUAGES } Language;
/* "en", "fr", in the order of Language; "en, fr" for an option table. */
extern const char *const language_names[LANGUAGES];
const char *languages(void);

/* The slots of a caption in the order of its sentence, then what is heard. */
enum { SUBJECT, PLACE, WEATHER, LIGHT, MOOD, STYLE, SLOTS, SOUND = SLOTS, BANKS };
extern const char *const bank_names[BANKS];          /* "subject", ..., "sound": the [sections] */

/* One line of a bank.  query: English, what the model reads; alternatives stand between " / ",
 * their embeddings are averaged.  words: as a sentence says it, article and preposition included;
 * both NULL for a phrase that says nothing (it competes, so that its slot may stay empty). */
typedef struct {
    char *query, *words[LANGUAGES];
    const char *file; int line;            /* for messages */
} Phrase;

typedef struct {
    Phrase *at; int count;
    float *vectors;                        /* [count][dim]; NULL until the first use */
} Bank;

/* That sound `sound` of the bank SOUND belongs to phrase `phrase` of bank `slot`. */
typedef struct { int slot, phrase, sound; double gain_db; } Belongs;

typedef struct {
    Bank bank[BANKS];
    Belongs *belongs; int belongs_count;
    char **files; int file_count;          /* the paths read */
} Phrases;

/* Add the phrases of a file, or of captions.txt, sounds.txt and soundscape.txt in a folder (any of
 * them may be missing, not all).  A phrase whose query is there already takes the new words.  A
 * mistake is told as "FILE:LINE: what, found X, wanted Y". */
bool phrases_read(Phrases *p, const char *path, Error *e);
bool phrases_folder(Phrases *p, const char *folder, Error *e);
void phrases_free(Phrases *p);
/* The phrase of a bank with this query (its first alternative is enough), or -1. */
int phrases_find(const Bank *b, const char *query);

/* ---- the models ------------------------------------------------------------------------------ */

typedef struct Fusion {
    Clip clip; Clap clap;
    bool sees, hears;                      /* which of them is open */
    Arena m;
    Phrases phrases;                       /* read before the first use, then left alone */
    int texts[2], pictures, sounds;        /* embedded so far, for names in traces */
    /* sentences that check_agree draws: CLIP's and CLAP's embeddings [DRAWS][dim], when needed */
    float *drawn[2][LANGUAGES];
} Fusion;

/* Open CLIP, CLAP or both: a folder may be NULL.  The tokenizer may come from another folder;
 * scratch holds the arena; both may be NULL.  On failure nothing stays open. */
bool fusion_open(Fusion *f, const char *clip, const char *clap, const char *tokenizer,
                 const char *scratch, Error *e);
void fusion_close(Fusion *f);
/* Embed the phrases that captions of pictures (slots) or sounds need, unless done; the functions
 * below call them. */
bool fusion_see_phrases(Fusion *f, Error *e);
bool fusion_hear_phrases(Fusion *f, Error *e);

/* ---- captions -------------------------------------------------------------------------------- */

/* A phrase and how well it fits: its cosine, and in a slot the softmax over the slot's phrases. */
typedef struct { int phrase; double cosine, probability; } Ranked;

typedef struct {
    Ranked *ranked[SLOTS]; int count[SLOTS];         /* best first */
    bool said[SLOTS];                      /* the first one is in the sentence */
    char *sentence[LANGUAGES];             /* "A cabin in the woods, under the snow." */
} Caption;

/* A slot is said where its best phrase reaches this probability; the subject always is. */
#define CONFIDENCE 0.7

/* picture is resized in place; caption_vector takes an embedding of CLIP in its stead. */
bool caption_picture(Fusion *f, Picture *p, double confidence, Caption *out, Error *e);
bool caption_vector(Fusion *f, const float *picture, double confidence, Caption *out, Error *e);
void caption_free(Caption *c);

/* A sound phrase: its cosine, and how many standard deviations it stands above the mean of all
 * sound phrases with this very sound. */
typedef struct { int phrase; double cosine, above; bool said; } Heard;

typedef struct {
    Heard *heard; int count;               /* all, best first */
    char *sentence[LANGUAGES];             /* "[Rain, a dog barking]", as for deaf readers */
} Hearing;

/* The best phrase is said, and up to HEARD_MOST that stand this far above the mean. */
#define HEARD_FROM 2.0
enum { HEARD_MOST = 4 };

bool caption_sound(Fusion *f, const Sound *s, double above, Hearing *out, Error *e);
bool hearing_vector(Fusion *f, const float *sound, double above, Hearing *out, Error *e);
void hearing_free(Hearing *h);

/* ---- soundscapes ----------------------------------------------------------------------------- */

/* A sound to make, how loud, and why: the phrase of the picture that it belongs to. */
typedef struct {
    int sound, slot, phrase;
    double gain_db, score;
} Layer;

enum { LAYERS_MOST = 8 };
typedef struct {
    Layer layer[LAYERS_MOST]; int count;   /* strongest reason first */
    /* for a listener who does not see the picture: what it shows, what is heard and why.  "A cabin,
     * in the snow. You hear: wind (in the snow); softly, a fire crackling (a cabin)." */
    char *reason[LANGUAGES];
} Soundscape;

/* At most `most` sounds (1..LAYERS_MOST) by their scores: the probability of the phrase that a
 * sound belongs to, times its level.  phrase_prompt of the sound is what AudioLDM is asked for. */
bool soundscape_choose(const Fusion *f, const Caption *c, int most, Soundscape *out, Error *e);
void soundscape_free(Soundscape *s);
/* The first alternative of a phrase's query; the caller frees. */
char *phrase_prompt(const Phrase *p, Error *e);

/* ---- agreement ------------------------------------------------------------------------------- */

enum { TEXT_PICTURE, TEXT_SOUND, PICTURE_SOUND, PAIRS };
extern const char *const pair_names[PAIRS];          /* "text-picture", ... */

typedef struct {
    bool asked, agree;
    double score;                          /* a cosine */
    double percentile;                     /* 0..100: pairs that do not belong together below it */
    int among;                             /* how many there were; none: percentile 0 */
    bool by_bank;                          /* the better way was through the bank */
} Pair;

typedef struct { Pair pair[PAIRS]; double mean; bool agree; } Verdict;

/* The percentile from which a pair agrees, and on the mean all that are asked. */
#define AGREE_FROM 80.0

/* Any two or three of text, picture and sound; the rest NULL.  Needs CLIP for text with picture,
 * CLAP for text with sound, both for picture with sound.  p is resized in place. */
bool check_agree(Fusion *f, const char *text, Picture *p, const Sound *s, double from,
                 Verdict *out, Error *e);
/* The k-th of the DRAWS sentences that texts are ranked among: of scenes, or of sounds; the caller
 * frees. */
enum { DRAWS = 256 };
char *drawn_sentence(const Phrases *p, bool of_sounds, int k, Language l, Error *e);
/* The language of a text by its little words; English where nothing speaks for French. */
Language text_language(const char *text);

#endif
