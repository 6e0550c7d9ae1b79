/* schedule.h - which noise at which step: a scheduler's file, the methods and their defaults, the
 * plan of a run.
 *
 *     Schedule s;
 *     SamplerPlan p;
 *     SamplerOptions o = { .method = -1, .schedule = sampler_schedule("karras"), .steps = 20 };
 *     if (!schedule_read(&s, config, "scheduler_config.json", &e)
 *         || !sampler_plan(&p, &s, &o, &e)) ...           p.timesteps, p.sigmas
 *     sampler_plan_free(&p);
 *
 * sampler.h includes this and runs it: who makes latents needs that one alone. */
#ifndef SCHEDULE_H
#define SCHEDULE_H
#include "base.h"
#include "io.h"
#include "tensor.h"

/* ---- the noise schedule: scheduler_config.json --------------------------------------------- */

/* What the model predicts: the noise e, the velocity v, or the clean latents. */
enum { EPSILON, V_PREDICTION, SAMPLE };

/* The file's values; -1 where it says nothing: then the default of the method in use counts. */
typedef struct {
    int method;                             /* of _class_name; -1: none of ours, or absent */
    char class_name[64];                    /* as in the file, "" if absent */
    int num_train_timesteps;
    double beta_start, beta_end;
    int beta_schedule;                      /* linear, scaled_linear, squaredcos_cap_v2 */
    int prediction_type;                    /* EPSILON, V_PREDICTION, SAMPLE */
    int timestep_spacing;                   /* linspace, leading, trailing */
    int steps_offset;
    int rescale_betas_zero_snr;
    int clip_sample; double clip_sample_range;
    int set_alpha_to_one;                   /* ddim, pndm */
    int skip_prk_steps;                     /* pndm */
    int variance_type;                      /* ddpm */
    int use_karras_sigmas, use_exponential_sigmas, final_sigmas_type;
    int solver_order, solver_type, algorithm_type, lower_order_final, euler_at_final;
    int original_inference_steps; double timestep_scaling;      /* lcm */
} Schedule;

/* Read config; where names it in messages.  Fails at a value out of range or of the wrong type, and
 * at a setting that no method here can follow (thresholding, trained_betas, flow sigmas ...),
 * naming key, found and wanted.  Unknown keys are accepted.  A _class_name that is none of ours is
 * kept: the model still works with a method chosen by name; the default then
 * fails, listing the names. */
bool schedule_read(Schedule *s, const Json *config, const char *where, Error *e);

/* What the pipelines override: steps_offset 1 and no clipping; with a mask steps_offset 1 and no
 * Runge-Kutta steps.  AudioLDM's overrides nothing. */
void schedule_as_sd(Schedule *s, bool mask);

/* ---- methods ------------------------------------------------------------------------------- */

int sampler_method(const char *name);                     /* -1: no such method */
/* discrete: as the file spaces its timesteps; linspace, leading, trailing (also sgm_uniform):
 * spaced so; karras, exponential: sigmas by their formula.  -1: no such schedule. */
int sampler_schedule(const char *name);
const char *sampler_name(int method), *sampler_schedule_name(int schedule);
const char *sampler_methods(void);                     /* "ddim, ddpm, pndm, ...": for messages */
const char *sampler_schedules(void);                      /* "discrete, karras, ..." */
bool sampler_has_karras(int method);                      /* and exponential */
bool sampler_has_eta(int method);                         /* ddim, tcd */

/* ---- the plan of a run ----------------------------------------------------------------------- */

typedef struct {
    int method, schedule;                   /* from the functions above; -1: what the file says */
    int steps;                              /* 1 .. num_train_timesteps */
    /* in place of a schedule, or NULL: [steps] whole timesteps that fall, for methods that do not
     * go by their distance (ddim, pndm); or [steps + 1] sigmas that fall, the last after all */
    const double *timesteps, *sigmas;
    double eta;                             /* 0 .. 1, for ddim and tcd; else 0 */
    const float *picture;                   /* clean latents to start from, or NULL */
    double strength;                 /* 0 .. 1, with a picture: int(steps * strength) steps run */
    const float *mask;            /* with a picture, or NULL: 1 is repainted, 0 kept; per value */
    Rng *rng;                               /* for the methods that draw */
    size_t count;                           /* values of one item's latents */
    /* After call 1 .. calls of the model, or NULL: the latents, and the clean latents expected from
     * there, for previews.  false stops the run. */
    bool (*each)(void *self, int call, int calls, const float *x, const float *x0);
    void *self;
} SamplerOptions;

/* What a run will do; calls first .. end - 1 of the lists are made. */
typedef struct {
    int method, schedule;
    int first, end;
    float *timesteps;                       /* [end], as the model sees them */
    float *sigmas;                /* [end + 1], noise over signal, the last after the last call */
                                            /* NULL for those that go by timestep */
    float *alphas; int alpha_count;         /* alphas_cumprod */
    float start;                            /* factor of the noise, without a picture */
    size_t memory;                          /* bytes that sample() takes for itself */
} SamplerPlan;

/* Every check of a run; needs no rng and no count. */
bool sampler_plan(SamplerPlan *p, const Schedule *s, const SamplerOptions *o, Error *e);
void sampler_plan_free(SamplerPlan *p);

/* ---- what sampler.c takes of it -------------------------------------------------------------- */

enum { DDIM, DDPM, PNDM, EULER, EULER_A, HEUN, LMS, DPM, UNIPC, LCM, DPM_SDE, TCD,
       SAMPLER_METHODS };
/* final_sigmas_type, solver_type, variance_type */
enum { ZERO, SIGMA_MIN };
enum { SOLVER_MIDPOINT, SOLVER_HEUN, SOLVER_LOGRHO, SOLVER_BH1, SOLVER_BH2 };
enum { FIXED_SMALL, FIXED_SMALL_LOG, FIXED_LARGE, FIXED_LARGE_LOG, LEARNED, LEARNED_RANGE };
/* What x is at a step: sqrt(a) x0 + sqrt(1-a) e, known by its timestep; the same, known by s; or
 * x0 + s e. */
enum { BY_TIMESTEP, BY_SIGMA, UNSCALED };
int sampler_form(int method);

/* s with the defaults of the class in place of what the file leaves out. */
Schedule schedule_resolved(const Schedule *s, int method);

/* Rooms of count values that a run takes: prediction, x0, fresh noise, six of memory, the mask. */
enum { SAMPLER_ROOMS = 10 };

#endif
