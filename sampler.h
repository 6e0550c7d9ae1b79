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
 *   - lists: timesteps for ddpm, euler, heun, dpm++2m, lcm and tcd, sigmas for euler are the
 *     reference's; the others that take one do with it what their class does with its own
 *   - dpm++2m runs at solver_order of the file (2 if absent), so 1 and 3 work too
 * What it does and this does not: with trailing spacing some numbers of steps, 61 the first, make
 * it take one step more, at t = -1.  With about as many steps as training had it fails or repeats a
 * timestep; here that is refused. */
#ifndef SAMPLER_H
#define SAMPLER_H
#include "schedule.h"

/* ---- running ------------------------------------------------------------------------------- */

/* Predict from latents x at timestep t (whole, or with a fraction for euler and the like); x and
 * prediction have o.count values.  false stops the run with the model's own message in e. */
typedef bool Model(void *self, const float *x, double t, float *prediction, Error *e);

/* Run.  x: unit-normal noise in (the picture, if any, is in o), clean latents out.  Fails at
 * latents that are not finite after a step, naming it; x is then of no use. */
bool sample(const Schedule *s, const SamplerOptions *o, float *x, Model *model, void *self,
            Error *e);

/* The clean latents x0 expected from a prediction, given x = alpha x0 + sigma e. */
void predicted_clean(int prediction_type, float alpha, float sigma, const float *x,
                     const float *prediction, float *x0, size_t n);

#endif
