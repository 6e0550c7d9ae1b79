/* views.h - what can be seen of a run of `image` beside its picture: a preview after every step, a
 * film of the steps, a map a word of where the UNet looked, a sheet of a whole batch.
 *
 *     Views v = { .a = a, .sd = &sd };
 *     if (!views_open(&v, &request, &e) || !views_start(&v, &e)) ...
 *     views_begin(&v, i);                  before picture i of the batch
 *     views_step(&v, call, calls, x0)      after every call of the UNet
 *     views_end(&v, &picture, &e)          the files of this picture
 *     views_commit(&v, &e)                 the files of the batch
 *     views_close(&v);
 *
 * None of them changes the picture by a bit. */
#ifndef VIEWS_H
#define VIEWS_H
#include "base.h"
#include "command.h"
#include "sd.h"

/* Pictures made small, side by side, row by row. */
typedef struct { Picture p; int columns, w, h, count; } Sheet;

typedef struct {
    const Args *a;
    const Sd *sd;
    PromptWord *words; int word_count;     /* words of the prompt, with --heatmap */
    float *heat;                           /* [words][h][w] */
    int w, h;                              /* latents */
    float *colours;                        /* of vae_colours */
    Vae vae; Arena m;                      /* or what --preview-vae decodes with */
    int index;                             /* of the picture in its batch */
    Sheet film, sheet;
    Error error;                           /* why views_step said false */
} Views;

/* What the options alone can refuse; outputs that cannot be made. */
bool views_check(const Args *a, Error *e);
/* Read the words, and ask r for their maps. */
bool views_open(Views *v, SdRequest *r, Error *e);
/* What views_start needs as a stage, and a preview after every step beside the run, which holds so
 * many bytes; false when nothing is needed. */
bool views_stage(const Views *v, size_t held, Stage *s);
bool views_start(Views *v, Error *e);
void views_begin(Views *v, int index);
bool views_step(Views *v, int call, int calls, const float *x0);
bool views_end(Views *v, const Picture *p, Error *e);
bool views_commit(Views *v, Error *e);
/* The words and their shares of the attention, as one JSON member. */
void views_print(const Views *v);
void views_close(Views *v);

#endif
