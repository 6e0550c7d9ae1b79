/* command.h - what the verbs share: their options, finding the model, results, plans, traces.
 * main.c holds the tables; make.c makes pictures, read.c embeds and compares, look.c looks inside,
 * bench.c measures.  A verb returns its exit code: 0 done, 1 failed, 2 misused (with e), 3 no. */
#ifndef COMMAND_H
#define COMMAND_H
#include "base.h"
#include "io.h"
#include "opt.h"
#include "tensor.h"

#define VERSION "0.1.0"

/* Every option of every verb; which verb takes which is in main.c's table. */
typedef struct {
    Options *options;
    const char *model, *clip, *sd, *tokenizer, *output, *isa, *device, *scratch, *trace, *config;
    int threads;
    bool plan, json, quiet, verbose, help;
    uint64_t max_mem;
    const char *prompt, *negative, *method, *schedule, *init;
    const char *latents, *save_latents, *prompt_embeds;
    int width, height, steps, batch, clip_skip;
    double guidance, eta, strength;
    uint64_t seed;
    Texts prompts, templates;
    const char *labels, *labels_file;
    bool normalize, sha256;
    int top;
    double threshold, tolerance;
} Args;

typedef int Verb(Args *a, Error *e);
Verb verb_image, verb_verify;                                              /* make.c */
Verb verb_embed, verb_score, verb_classify;                                /* read.c */
Verb verb_tokenize, verb_inspect, verb_compare;                            /* look.c */
Verb verb_bench, verb_selftest;                                            /* bench.c */
Verb verb_version, verb_help;                                              /* main.c */

/* The table of all options, ended by an all-zero row; the bit of a verb in its column `verbs`. */
extern const Opt option_table[];
unsigned verb_bit(const char *name);

/* The folder of a part of the model, "clip" or "sd": --clip or --sd; the folder part/ of the bundle
 * -m; or -m itself, if it is such a model.  The caller frees; NULL with e: none, or another one. */
char *model_part(const Args *a, const char *part, Error *e);
/* What -m names, without looking into it: -m, $FUSION_MODEL, weights/tiny beside the program. */
char *model_path(const Args *a, Error *e);
/* "clip", "sd" or NULL: what kind of model a folder holds, by its config. */
const char *model_kind(const char *folder);

/* Threads and instruction set as asked. */
bool choose_machine(const Args *a, Error *e);

/* A line on standard error, unless -q. */
PRINTF(2, 3) void say(const Args *a, const char *format, ...);

/* Stored by the reference, of no use to a forward. */
#define IGNORED_TENSORS "position_ids|num_batches_tracked"
/* With -v: tensors of an open model that nothing uses. */
void tell_unused(Args *a, const Weights *w);

/* Text as one line of a tab-separated table: \t, \n, \\ and control bytes escaped. */
void print_field(const char *text);
void print_bytes(const char *text, size_t n);
/* Text as a JSON string. */
void print_json(const char *text);
void print_json_bytes(const char *text, size_t n);

/* One stage of --plan, as a line or an object. */
typedef struct { const char *name; size_t memory; double macs, weight_bytes; } Stage;
/* Print the stages and their total: the largest memory, the sums of the rest. */
void print_plan(const Args *a, const Stage *stages, int count);
/* --max-mem against a plan's largest memory. */
bool check_memory(const Args *a, size_t need, Error *e);

/* --trace: begin to write every activation; trace_end commits, or with ok = false discards. */
typedef struct Trace Trace;
bool trace_begin(Trace **t, const Args *a, Error *e);
bool trace_end(Trace *t, bool ok, Error *e);

bool ends_with(const char *text, const char *ending);

#endif
