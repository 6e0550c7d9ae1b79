/* command.h - what the verbs share: their options, finding the model, results, plans, traces.
 * main.c holds the tables; make.c makes pictures, hear.c sounds, record.c says how they were made
 * and makes them again; read.c embeds and compares, look.c looks inside, bench.c measures.  A verb
 * returns its exit code: 0 done, 1 failed, 2 misused (with e), 3 no. */
#ifndef COMMAND_H
#define COMMAND_H
#include "base.h"
#include "io.h"
#include "opt.h"
#include "tensor.h"
#include "wav.h"

#define VERSION "0.1.0"

/* Every option of every verb; which verb takes which is in main.c's table. */
typedef struct {
    Options *options;
    const char *model, *clip, *sd, *audioldm, *clap, *tokenizer;
    const char *output, *isa, *device, *scratch, *trace, *config;
    int threads;
    bool plan, json, quiet, verbose, help;
    uint64_t max_mem;
    const char *prompt, *negative, *method, *schedule, *init;
    const char *weighting, *prompt_file, *style, *styles, *vae;
    const char *latents, *save_latents, *prompt_embeds;
    int width, height, steps, batch, clip_skip;
    double guidance, eta, strength;
    uint64_t seed;
    int candidates;
    const char *mask, *preview, *preview_vae, *film, *heatmap, *sheet;
    int feather;
    const char *save_config;
    const char *timesteps, *sigmas, *rng, *noise_size, *each_steps, *each_guidance;
    struct { double *steps, *guidance; int rows, columns; } grid;      /* a picture for each pair */
    double rescale;
    uint64_t variation_seed;
    double variation;
    bool tiling;
    Texts layers;
    const char *lang, *image, *audio;
    Texts phrases;
    int sounds;
    const char *spectrogram;
    double length, gain_db, peak, rms, fade_in, fade_out, loop;
    bool as_float;
    Texts loras, embeddings;
    Texts prompts, templates;
    const char *labels, *labels_file;
    bool normalize, sha256, stats, diff, card;
    int top;
    double threshold, tolerance;
    Texts inputs, minus;
    const char *index, *shard, *undo;
    bool merge, apply;
    double crossfade, sound_guidance;
    int sound_steps, tries;
    bool describe;
    Output **into;                         /* not an option: what is made stays in memory, here */
    struct Plans *plans;                   /* nor this: plans are added up here, not printed */
    const struct Lines *each;              /* nor this: the prompt of each picture of a batch */
} Args;

typedef int Verb(Args *a, Error *e);
Verb verb_image;                                                           /* make.c */
Verb verb_audio;                                                           /* hear.c */
Verb verb_caption, verb_soundscape, verb_check;                            /* join.c */
Verb verb_story;                                                           /* tell.c */
Verb verb_index, verb_search, verb_organize, verb_duplicates;              /* find.c */
Verb verb_verify;                                                          /* record.c */
Verb verb_embed, verb_score, verb_classify;                                /* read.c */
Verb verb_tokenize, verb_inspect, verb_compare;                            /* look.c */
Verb verb_bench;                                                           /* bench.c */
Verb verb_selftest;                                                     /* selftest.c */
Verb verb_version, verb_help;                                              /* main.c */

/* The table of all options, ended by an all-zero row; the bit of a verb in its column `verbs`. */
extern const Opt option_table[];
unsigned verb_bit(const char *name);

/* The folder of a part of the model, "clip", "sd", "audioldm" or "clap": the option of that name;
 * the folder part/ of the bundle -m; or -m itself, if it is such a model.  The caller frees; NULL
 * with e: none, or another one. */
char *model_part(const Args *a, const char *part, Error *e);
/* Whether there is such a part; false with e where that cannot be told, as of a
 * config that is broken. */
bool part_given(const Args *a, const char *part, Error *e);
/* The folder that a model's tokenizer comes from, when it is not its own: --tokenizer; for a
 * checkpoint in one file that has none beside it, the CLIP model's.  The caller frees; NULL: its
 * own. */
char *model_tokenizer(const Args *a, const char *model);
/* name below the folder of this program; the caller frees, NULL when out of memory. */
char *beside_program(const char *name);
/* Open CLIP, CLAP or both as the options say, with the phrases of the model, of weights/phrases
 * beside the program, and of --phrases. */
struct Fusion;
bool fusion_begin(struct Fusion *f, Args *a, bool sees, bool hears, Error *e);
/* What -m names, without looking into it: -m, $FUSION_MODEL, weights/tiny beside the program. */
char *model_path(const Args *a, Error *e);
/* "clip", "sd", "audioldm", "clap" or NULL: what kind of model a folder holds, by its config, or a
 * checkpoint, by its tensors; NULL with e: its config cannot be read. */
const char *model_kind(const char *path, Error *e);

/* Threads and instruction set as asked. */
bool choose_machine(const Args *a, Error *e);

/* A line on standard error, unless -q. */
PRINTF(2, 3) void say(const Args *a, const char *format, ...);
/* With -v: how long a stage took, and what share of the machine's measured peak that is; macs 0:
 * not known. */
void tell_stage(const Args *a, const char *name, double seconds, double macs);

/* Stored by the reference, of no use to a forward. */
#define IGNORED_TENSORS \
    "position_ids|num_batches_tracked|token_type_ids|relative_position_index"
/* With -v: tensors of an open model that nothing uses. */
void tell_unused(Args *a, const Weights *w);

/* Text as one line of a tab-separated table: \t, \n, \\ and control bytes escaped. */
void print_field(const char *text);
void print_bytes(const char *text, size_t n), put_bytes(FILE *out, const char *text, size_t n);
/* Text as a JSON string. */
void print_json(const char *text);
void print_json_bytes(const char *text, size_t n);

/* One stage of --plan, as a line or an object. */
typedef struct { const char *name; size_t memory; double macs, weight_bytes; } Stage;
/* Print the stages and their total: the largest memory, the sums of the rest. */
void print_plan(const Args *a, const Stage *stages, int count);
/* The stages of several plans; those of one name together need the memory and weights of the
 * largest, the arithmetic of all. */
enum { PLANS_MOST = 24 };
typedef struct Plans {
    const char *of;                        /* "picture": before the names of what is added */
    Stage stages[PLANS_MOST]; char names[PLANS_MOST][32]; int count;
} Plans;
/* --max-mem against a plan's largest memory. */
bool check_memory(const Args *a, size_t need, Error *e);

/* --trace: begin to write every activation; trace_end commits, or with ok = false discards. */
typedef struct Trace Trace;
bool trace_begin(Trace **t, const Args *a, Error *e);
bool trace_end(Trace *t, bool ok, Error *e);

bool ends_with(const char *text, const char *ending);
/* By content: a WAV sound; a PNG, JPEG or PNM picture. */
bool is_wav(const char *path), is_picture(const char *path);

/* ---- making: record.c ------------------------------------------------------------------------ */

#define PICTURE_NAMES ".png or .ppm"
#define SOUND_NAMES ".wav"

/* Make one output or a batch, as the options say; silent: not even the seed is told. */
bool make_image(Args *a, bool silent, Error *e), make_audio(Args *a, bool silent, Error *e);
/* What can be refused before a sound is made: options, names, outputs. */
bool audio_ready(Args *a, Error *e);

/* name with k in place of its %d or %03d; the caller frees. */
char *numbered(const char *name, int k, Error *e);
/* Standard output, a FIFO or a device. */
bool is_special(const char *path);
/* The name given to an option that writes files: its ending, and a counter for a batch. */
bool check_names(const Args *a, const char *option, const char *name, const char *endings,
                 Error *e);
/* What options alone can refuse; endings as PICTURE_NAMES, things: "pictures". */
bool check_making(const Args *a, const char *endings, const char *things, Error *e);
/* Every output of this name can be made, as far as can be known now. */
bool check_outputs(const Args *a, const char *name, Error *e);
/* Begin one output, and end it; with a->into it stays in memory. */
Output *making_open(const Args *a, const char *name, Error *e);
bool making_commit(const Args *a, Output *o, Error *e);
/* A random seed, where none is given. */
bool choose_seed(Args *a, Error *e);

/* A misuse in the words of a library, "width: ..." or "pndm: eta: ...", as one of an option. */
bool misuse_option(const Error *inner, Error *e);

/* --latents, of shape want with any number of items (one, or one an output), and --prompt-embeds
 * with negative_prompt_embeds where the file has them.  A dimension 0 in want takes any length.
 * Not given: nothing is read.  The caller frees. */
bool read_latents(const Args *a, const int want[4], float **out, int *items, Error *e);
bool read_embeds(const Args *a, const int *want, int rank, float *out[2], int *tokens, Error *e);

/* The makings of --candidates: those ranked so far, best first. */
typedef struct { uint64_t seed; double score; } Candidate;
/* Put new in its place among n; true: it is the first now. */
bool rank_candidate(Candidate *ranked, int n, Candidate new);
/* Each seed with its score on standard error, as one JSON list on standard output. */
void tell_candidates(const Args *a, const Candidate *ranked);
void print_candidates(const Candidate *ranked, int count);
/* Say of inner, which found no model for `what`, that --candidates needs it; or a failure. */
bool no_ranking(const Args *a, const char *part, const char *name, const Error *inner, Error *e);

/* A bar with the time left, on one line that is written over; self: a double, when it began. */
bool show_step(void *self, int call, int calls, const float *latents, const float *x0);

/* A line for each file of weights: sum and name below the model's folder.  The caller frees. */
char *hash_models(const char *folder, const Weights *const *parts, int count, Error *e);

/* FILE:WEIGHT of --lora: the file, which the caller frees, and the weight, 1 where none is said.
 * What stands behind the last colon and is no number belongs to the name. */
char *lora_file(const char *text, double *weight, Error *e);

/* The texts that an output carries, so that it can be made again: pairs, ended by NULL. */
typedef struct {
    const char *texts[28];
    char *options, *loras, *embeddings, seed[24], sums[4][65];
} Record;
/* --save-config: can it be written?  The options that make the last output again, for --config. */
bool check_config(const Args *a, Error *e), save_config(const Args *a, Error *e);
bool record_make(Record *r, const Args *a, const char *models, Error *e);
void record_free(Record *r);

/* ---- spectrum.c ------------------------------------------------------------------------------ */

/* The mel spectrogram of one channel: time to the right, frequency upward, ticks at seconds and
 * kHz, 80 dB from the loudest to the darkest. */
bool spectrogram_draw(Picture *p, const Sound *s, Error *e);

#endif
