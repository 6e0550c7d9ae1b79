/* read.h - what verbs share that embed: a model of text with pictures or sounds, and labels.
 * read.c. */
#ifndef READ_H
#define READ_H
#include "clap.h"
#include "clip.h"
#include "command.h"

/* A model of text and one of pictures or sounds: CLIP, or with hears CLAP. */
typedef struct {
    bool hears;
    Clip clip;
    Clap clap;
    char *folder;
    int dim;
    double logit_scale;
    Arena m;
    Trace *trace;
    double macs[2];                        /* of all texts, of all files, as planned */
} Reader;

/* Open CLAP or CLIP; nothing computes yet.  reader_close takes a reader that failed, too; it
 * returns ok, or false where the trace could not be written. */
bool reader_model(Reader *r, Args *a, bool hears, Error *e);
bool reader_close(Reader *r, bool ok, Error *e);
/* What these texts, and this many files, need: the towers, counted. */
bool reader_plan(const Reader *r, const Texts *texts, size_t files, Stage stages[2], Error *e);
/* Memory for that, unless --max-mem says no. */
bool reader_begin(Reader *r, const Args *a, const Stage stages[2], Error *e);

/* Vectors [dim], not normalised; lost: tokens beyond what the model takes, may be NULL. */
bool reader_text(Reader *r, const char *text, float *out, int *lost, Error *e);
/* A picture or, with a CLAP folder, a sound; path names it in messages. */
bool reader_bytes(Reader *r, const uint8_t *bytes, size_t n, const char *path, float *out,
                  Error *e);
bool reader_file(Reader *r, const char *path, float *out, Error *e);
/* [count][dim] for texts, in memory the caller frees; NULL with e. */
float *reader_texts(Reader *r, const Args *a, const Texts *texts, Error *e);
/* Cosines, logits and their softmax of n texts against one file. */
void reader_judge(const Reader *r, const float *texts, int n, const float *file, double *cosines,
                  double *logits, double *p);

/* Labels of --labels or --labels-file, in one block of text, and each of them in every template.
 * labels_close takes labels that failed, too. */
typedef struct { char *text; Texts list, filled; } Labels;
bool labels_open(Labels *l, const Args *a, Error *e);
void labels_close(Labels *l);
/* One vector a label, the average of its templates, [count][dim]; the caller frees. */
float *reader_labels(Reader *r, const Args *a, const Labels *l, Error *e);

#endif
