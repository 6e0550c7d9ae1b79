/* sampler.h - from noise to latents: diffusion samplers over any model that predicts.
 *
 *     Schedule s;
 *     Json *config = json_read("sd15/scheduler/scheduler_config.json", 1 << 20, &e);
 *     if (!schedule_read(&s, config, "sd15/scheduler/scheduler_config.json", &e)) ...
 *     schedule_as_sd(&s, false);                     what StableDiffusionPipeline overrides in it
 *
 *     rng_seed(&rng, 42);
 *     randn(&rng, x, n);                             x: unit-normal noise, [4,64,64]
 *     SamplerOptions o = { .method = -1, .schedule = -1, .steps = 20, .rng = &rng, .count = n };
 *     if (!sample(&s, &o, x, guidance, &unet, &e)) ...
 *                                                    x: clean latents
 *
 * A sampler never sees a network.  It calls a Model: latents and a timestep in, a prediction out.
 * Guidance is itself a Model, one that calls another twice.
 *
 * Latents are flat float32 in the order in which torch draws noise for one picture, [C,H,W]; all is
 * element by element, so the samplers need no shape.  Draws of the samplers' own come from the Rng
 * after what the caller has drawn from it, in the reference's order.
 *
 * The reference is diffusers 0.42 as StableDiffusionPipeline and its Img2Img and Inpaint relatives
 * drive its schedulers.  A method has the name that stable-diffusion.cpp gives it:
 *
 *     name      class of diffusers               calls of the model     draws noise   Karras sigmas
 *     ddim      DDIMScheduler                    steps                  eta > 0       -
 *     ddpm      DDPMScheduler                    steps                  yes           -
 *     pndm      PNDMScheduler (also plms)        steps + 1, or + 9 (1)  -             -
 *     euler     EulerDiscreteScheduler           steps                  -             yes
 *     euler_a   EulerAncestralDiscreteScheduler  steps                  yes           if asked (2)
 *     heun      HeunDiscreteScheduler            2 steps - 1            -             yes
 *     lms       LMSDiscreteScheduler             steps                  -             yes
 *     dpm++2m   DPMSolverMultistepScheduler      steps                  -             yes
 *     unipc     UniPCMultistepScheduler          steps                  -             yes
 *     lcm       LCMScheduler                     steps                  yes           -
 *     dpm++2m_sde  the same as dpm++2m, sde      steps                  yes           yes
 *     tcd       TCDScheduler                     steps                  eta > 0       -
 *
 *     (1) + 9 when the file has not skip_prk_steps; one step alone is one call
 *     (2) the class has none: use_karras_sigmas of a file does not count, the option does
 *
 * What the reference does and a reader might not expect:
 *   - one step with linspace spacing looks at t = 0 (not dpm++2m, unipc, lcm)
 *   - lms with strength below 1 weighs its first slopes as if it had those before them
 *   - dpm++2m runs at solver_order of the file (2 if absent), so 1 and 3 work too
 * What it does and this does not: with trailing spacing some numbers of steps, 61 the first, make
 * it take one step more, at t = -1.  With about as many steps as training had it fails or repeats a
 * timestep; here that is refused. */
#ifndef SAMPLER_H
#define SAMPLER_H
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

/* ---- running ------------------------------------------------------------------------------- */

/* Predict from latents x at timestep t (whole, or with a fraction for euler and the like); x and
 * prediction have o.count values.  false stops the run with the model's own message in e. */
typedef bool Model(void *self, const float *x, double t, float *prediction, Error *e);

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

/* Run.  x: unit-normal noise in (the picture, if any, is in o), clean latents out.  Fails at
 * latents that are not finite after a step, naming it; x is then of no use. */
bool sample(const Schedule *s, const SamplerOptions *o, float *x, Model *model, void *self,
            Error *e);

/* The clean latents x0 expected from a prediction, given x = alpha x0 + sigma e. */
void predicted_clean(int prediction_type, float alpha, float sigma, const float *x,
                     const float *prediction, float *x0, size_t n);

#endif
