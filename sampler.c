/* sampler.c - the samplers of diffusers, each a few lines over the seam Model.  Manual: sampler.h.
 *
 * Names.  a is alphas_cumprod, the share of the picture left in x at a timestep; x0 the clean
 * latents, e the noise, z fresh noise, s a sigma (noise over signal).  A primed value belongs to
 * the next step.  Values are float where the reference has float32 tensors, double where it has
 * NumPy or Python. */
#include "sampler.h"
#include <math.h>
#include <stdlib.h>

/* ---- the run ------------------------------------------------------------------------------- */

typedef struct {
    const char *name; int form;             /* of the method */
    const SamplerOptions *o;
    Schedule s;
    SamplerPlan p;
    size_t n;
    int stride;                             /* timesteps a step, rounded down */
    float *x;                               /* the latents */
    float *m, *x0;                          /* the model's prediction from x; the x0 it means */
    float *z;                               /* fresh noise */
    float *old[4];                          /* what a multistep method remembers, newest first */
    float *start, *sum;                     /* a step of several calls: its x, what it gathers */
    float *noise;                           /* the first noise, for a mask */
} Run;

/* x = alpha x0 + sigma e before call i. */
typedef struct { float alpha, sigma, lambda; } Level;

static float alpha_at(const Run *r, float t)
{
    if (t < 0) return r->s.set_alpha_to_one ? 1 : r->p.alphas[0];
    return r->p.alphas[imin((int)t, r->p.alpha_count - 1)];
}

static Level level(const Run *r, int i)
{
    if (r->form == BY_TIMESTEP) {
        float a = alpha_at(r, r->p.timesteps[i]);
        return (Level){ sqrtf(a), sqrtf(1 - a), 0 };
    }
    float s = r->p.sigmas[i], alpha = 1 / sqrtf(s * s + 1);
    if (r->form == UNSCALED) return (Level){ 1, s, 0 };
    return (Level){ alpha, s * alpha, 0 };
}

/* The same with lambda = log(alpha / sigma), as the solvers in lambda want it. */
static Level log_level(const Run *r, int i)
{
    Level l = level(r, i);
    l.lambda = (float)f_log(l.alpha) - (float)f_log(l.sigma);
    return l;
}

/* alpha and sigma are first brought to alpha^2 + sigma^2 = 1, where v = alpha e - sigma x0. */
void predicted_clean(int prediction_type, float alpha, float sigma, const float *x,
                     const float *prediction, float *x0, size_t n)
{
    double size = sqrt((double)alpha * alpha + (double)sigma * sigma);
    float of_x = (float)(alpha / size / size), of_v = (float)(sigma / size);
    for (size_t k = 0; k < n; k++) {
        float m = prediction[k];
        if (prediction_type == EPSILON) x0[k] = (x[k] - sigma * m) / alpha;
        else if (prediction_type == V_PREDICTION) x0[k] = of_x * x[k] - of_v * m;
        else x0[k] = m;
    }
}

/* to = alpha picture + sigma noise */
static void noised(const Run *r, int i, const float *picture, const float *noise, float *to)
{
    Level l = level(r, i);
    for (size_t k = 0; k < r->n; k++) to[k] = l.alpha * picture[k] + l.sigma * noise[k];
}

/* x = x + factor z */
static void add_fresh_noise(Run *r, float factor)
{
    randn(r->o->rng, r->z, r->n);
    for (size_t k = 0; k < r->n; k++) r->x[k] += factor * r->z[k];
}

/* Make room for a newest memory; the oldest goes. */
static float *remember(Run *r, const float *values)
{
    float *room = r->old[3];
    for (int j = 3; j > 0; j--) r->old[j] = r->old[j - 1];
    r->old[0] = room;
    if (values) memcpy(room, values, r->n * sizeof *room);
    return room;
}

/* Ask the model about x at call i: m, and the x0 that it means. */
static bool predict(Run *r, int i, Model *model, void *self, Error *e)
{
    const float *input = r->x;
    Level l = level(r, i);
    if (r->form == UNSCALED) {                           /* scale_model_input */
        float size = sqrtf(l.sigma * l.sigma + 1);
        for (size_t k = 0; k < r->n; k++) r->z[k] = r->x[k] / size;
        input = r->z;
    }
    if (!model(self, input, r->p.timesteps[i], r->m, e)) return false;
    predicted_clean(r->s.prediction_type, l.alpha, l.sigma, r->x, r->m, r->x0, r->n);
    float limit = (float)r->s.clip_sample_range;
    for (size_t k = 0; r->s.clip_sample && k < r->n; k++)
        r->x0[k] = r->x0[k] > limit ? limit : r->x0[k] < -limit ? -limit : r->x0[k];
    return true;
}

/* x at call i -> x at call i + 1, by method. */
static void ddim(Run *r, int i), ddpm(Run *r, int i), pndm(Run *r, int i), euler(Run *r, int i);
static void euler_a(Run *r, int i), heun(Run *r, int i), lms(Run *r, int i), dpm(Run *r, int i);
static void unipc(Run *r, int i), lcm(Run *r, int i), dpm_sde(Run *r, int i), tcd(Run *r, int i);

static void (*const step[SAMPLER_METHODS])(Run *r, int i) = {
    [DDIM] = ddim, [DDPM] = ddpm, [PNDM] = pndm, [EULER] = euler, [EULER_A] = euler_a,
    [HEUN] = heun, [LMS] = lms, [DPM] = dpm, [UNIPC] = unipc, [LCM] = lcm, [DPM_SDE] = dpm_sde,
    [TCD] = tcd,
};

/* Keep the picture, as noisy as x now is, where the mask is 0. */
static void keep_unmasked(Run *r, int next)
{
    const float *mask = r->o->mask, *kept = r->o->picture;
    if (next < r->p.end) {
        noised(r, next, kept, r->noise, r->z);
        kept = r->z;
    }
    for (size_t k = 0; k < r->n; k++) r->x[k] = (1 - mask[k]) * kept[k] + mask[k] * r->x[k];
}

static bool steps(Run *r, Model *model, void *self, Error *e)
{
    const SamplerOptions *o = r->o;
    int calls = r->p.end - r->p.first;
    for (int i = r->p.first; i < r->p.end; i++) {
        int call = i - r->p.first + 1;
        if (!predict(r, i, model, self, e)) return false;
        step[r->p.method](r, i);
        if (o->mask) keep_unmasked(r, i + 1);
        for (size_t k = 0; k < r->n; k++)
            if (!isfinite(r->x[k]))
                return fail(e, "%s: step %d of %d: not finite", r->name, call, calls);
        if (o->each && !o->each(o->self, call, calls, r->x, r->x0))
            return fail(e, "%s: step %d of %d: stopped", r->name, call, calls);
    }
    return true;
}

/* x, unit noise, becomes what call first expects. */
static void begin(Run *r)
{
    if (r->o->mask) memcpy(r->noise, r->x, r->n * sizeof *r->x);
    bool noise_alone = !r->o->picture || (r->o->mask && r->o->strength >= 1);
    if (noise_alone) for (size_t k = 0; k < r->n; k++) r->x[k] *= r->p.start;
    else noised(r, r->p.first, r->o->picture, r->x, r->x);
}

bool sample(const Schedule *s, const SamplerOptions *o, float *x, Model *model, void *self,
            Error *e)
{
    Run r = { .o = o, .x = x, .n = o->count };
    size_t all;
    if (!sampler_plan(&r.p, s, o, e)) return false;
    r.name = sampler_name(r.p.method);
    r.form = sampler_form(r.p.method);
    r.s = schedule_resolved(s, r.p.method);
    r.stride = r.s.num_train_timesteps / o->steps;

    float *rooms = size_mul(o->count, SAMPLER_ROOMS, &all) ? calloc(all, sizeof *rooms) : NULL;
    if (!rooms) {
        sampler_plan_free(&r.p);
        return fail(e, "%s: out of memory: needed room for %zu latents", r.name, o->count);
    }
    float **room[SAMPLER_ROOMS] = { &r.m, &r.x0, &r.z, &r.old[0], &r.old[1], &r.old[2], &r.old[3],
                            &r.start, &r.sum, &r.noise };
    for (int i = 0; i < SAMPLER_ROOMS; i++) *room[i] = rooms + (size_t)i * o->count;

    begin(&r);
    bool done = steps(&r, model, self, e);
    free(rooms);
    sampler_plan_free(&r.p);
    return done;
}

/* ---- by timestep: ddim, ddpm, lcm, pndm ---------------------------------------------------- */

/* The noise e that a prediction means. */
static float noise_of(const Run *r, float alpha, float sigma, size_t k)
{
    const float m = r->m[k];
    if (r->s.prediction_type == V_PREDICTION) return alpha * m + sigma * r->x[k];
    if (r->s.prediction_type == SAMPLE) return (r->x[k] - alpha * m) / sigma;
    return m;
}

/* DDIMScheduler.  Song, Meng, Ermon 2020, equations 12 and 16:
 *     x' = sqrt(a') x0 + sqrt(1 - a' - v^2) e + v z
 *     v  = eta sqrt((1 - a') / (1 - a) (1 - a / a')) */
static void ddim(Run *r, int i)
{
    float t = r->p.timesteps[i], a = alpha_at(r, t), next = alpha_at(r, t - (float)r->stride);
    float v = (float)r->o->eta * sqrtf((1 - next) / (1 - a) * (1 - a / next));
    float alpha = sqrtf(a), sigma = sqrtf(1 - a), of_x0 = sqrtf(next), rest = 1 - next - v * v;
    float of_e = sqrtf(rest > 0 ? rest : 0);
    for (size_t k = 0; k < r->n; k++)
        r->x[k] = of_x0 * r->x0[k] + of_e * noise_of(r, alpha, sigma, k);
    if (r->o->eta > 0) add_fresh_noise(r, v);
}

/* DDPMScheduler.  Ho, Jain, Abbeel 2020, equation 7, b = 1 - a / a' being the step's noise:
 *     x' = sqrt(a') b / (1-a) x0 + sqrt(a / a') (1-a') / (1-a) x + sqrt(v) z
 *     v  = (1-a') / (1-a) b */
static void ddpm(Run *r, int i)
{
    const float *t = r->p.timesteps;
    float a = alpha_at(r, t[i]), next = i + 1 < r->p.end ? alpha_at(r, t[i + 1]) : 1;
    float b = 1 - a / next;
    float of_x0 = sqrtf(next) * b / (1 - a), of_x = sqrtf(a / next) * (1 - next) / (1 - a);
    float v = (1 - next) / (1 - a) * b;
    if (v < 1e-20f) v = 1e-20f;
    if (r->s.variance_type == FIXED_LARGE) v = b;
    for (size_t k = 0; k < r->n; k++) r->x[k] = of_x0 * r->x0[k] + of_x * r->x[k];
    if (t[i] > 0) add_fresh_noise(r, sqrtf(v));
}

/* LCMScheduler.  Luo et al. 2023, section 4: the model jumps to x0, which meets x itself at t = 0
 * (Song et al. 2023, equation 5); then noise again, but for the last step:
 *     x0 = c_out x0 + c_skip x,    x' = sqrt(a') x0 + sqrt(1 - a') z */
static void lcm(Run *r, int i)
{
    float t = r->p.timesteps[i] * (float)r->s.timestep_scaling, c = t * t + 0.25f;
    float c_skip = 0.25f / c, c_out = t / sqrtf(c);
    for (size_t k = 0; k < r->n; k++) r->x0[k] = c_out * r->x0[k] + c_skip * r->x[k];
    memcpy(r->x, r->x0, r->n * sizeof *r->x);
    if (i + 1 == r->p.end) return;
    Level next = level(r, i + 1);
    for (size_t k = 0; k < r->n; k++) r->x[k] *= next.alpha;
    add_fresh_noise(r, next.sigma);
}

/* TCDScheduler.  Zheng et al. 2024, algorithm 4, eta being gamma: down to s = (1 - eta) t', then
 * noise back up to t', but for the last step:
 *     x_s = sqrt(a_s) x0 + sqrt(1 - a_s) e,    x' = sqrt(a' / a_s) x_s + sqrt(1 - a' / a_s) z */
static void tcd(Run *r, int i)
{
    const bool last = i + 1 == r->p.end;
    const float t = last ? 0 : r->p.timesteps[i + 1];
    const float now = alpha_at(r, r->p.timesteps[i]), next = alpha_at(r, t);
    const float down = alpha_at(r, floorf((float)(1 - r->o->eta) * t));
    const float alpha = sqrtf(now), sigma = sqrtf(1 - now), of_x0 = sqrtf(down),
                of_e = sqrtf(1 - down);
    for (size_t k = 0; k < r->n; k++)
        r->x[k] = of_x0 * r->x0[k] + of_e * noise_of(r, alpha, sigma, k);
    if (last || !(r->o->eta > 0)) return;
    const float up = sqrtf(next / down);
    for (size_t k = 0; k < r->n; k++) r->x[k] *= up;
    add_fresh_noise(r, sqrtf(1 - next / down));
}

/* PNDMScheduler.  Liu et al. 2022, equation 11:
 *     x' = sqrt(a' / a) x - (a' - a) e / (a sqrt(1-a') + sqrt(a (1-a) a')) */
static void pndm_transfer(Run *r, const float *x, float t, float t_next, const float *m)
{
    float a = alpha_at(r, t), next = alpha_at(r, t_next), alpha = sqrtf(a), sigma = sqrtf(1 - a);
    float of_x = sqrtf(next / a), of_e = next - a;
    float below = a * sqrtf(1 - next) + sqrtf(a * (1 - a) * next);
    for (size_t k = 0; k < r->n; k++) {
        float e = r->s.prediction_type == V_PREDICTION ? alpha * m[k] + sigma * x[k] : m[k];
        r->x[k] = of_x * x[k] - of_e * e / below;
    }
}

/* Its equation 13, one call of four: (e1 + 2 e2 + 2 e3 + e4) / 6, the middles half a step away. */
static void pndm_runge_kutta(Run *r, int call, float t)
{
    static const float weight[] = { 1 / 6.0f, 1 / 3.0f, 1 / 3.0f, 1 / 6.0f };
    int stage = call % 4;
    if (stage == 0) {
        memset(r->sum, 0, r->n * sizeof *r->sum);
        memcpy(r->start, r->x, r->n * sizeof *r->x);
        remember(r, r->m);
    }
    for (size_t k = 0; k < r->n; k++) r->sum[k] += weight[stage] * r->m[k];
    float t_next = call % 2 ? t : t - (float)(r->stride / 2);
    pndm_transfer(r, r->start, r->p.timesteps[call - stage], t_next, stage == 3 ? r->sum : r->m);
}

/* Its equation 12, Adams-Bashforth over up to four predictions.  Without Runge-Kutta steps before,
 * the second call looks at where the first one led and goes again from the start, with the mean
 * of both. */
static void pndm(Run *r, int i)
{
    static const float weight[4][4] = { { 1 }, { 3, -1 }, { 23, -16, 5 }, { 55, -59, 37, -9 } };
    static const float divisor[4] = { 1, 2, 12, 24 };
    int call = i - r->p.first, known = r->s.skip_prk_steps ? imin(call, 4) : 4;
    float t = r->p.timesteps[i], t_next = t - (float)r->stride;
    if (!r->s.skip_prk_steps && call < 12) {
        pndm_runge_kutta(r, call, t);
        return;
    }
    if (call == 1) {
        for (size_t k = 0; k < r->n; k++) r->sum[k] = (r->m[k] + r->old[0][k]) / 2;
        pndm_transfer(r, r->start, t + (float)r->stride, t, r->sum);
        return;
    }
    remember(r, r->m);
    if (call == 0) {
        memcpy(r->start, r->x, r->n * sizeof *r->x);
        known = 1;
    }
    for (size_t k = 0; k < r->n; k++) {
        float e = 0;
        for (int j = 0; j < known; j++) e += weight[known - 1][j] * r->old[j][k];
        r->sum[k] = e / divisor[known - 1];
    }
    pndm_transfer(r, r->x, t, t_next, r->sum);
}

/* ---- x0 + s e: euler, euler_a, heun, lms --------------------------------------------------- */

/* EulerDiscreteScheduler.  Karras et al. 2022, algorithm 1 without its correction:
 *     d = (x - x0) / s,    x' = x + d (s' - s) */
static void euler(Run *r, int i)
{
    float s = r->p.sigmas[i], ds = r->p.sigmas[i + 1] - s;
    for (size_t k = 0; k < r->n; k++) r->x[k] += (r->x[k] - r->x0[k]) / s * ds;
}

/* EulerAncestralDiscreteScheduler.  Steps lower than s' and noises up to it (k-diffusion's rule):
 *     up^2 = s'^2 (s^2 - s'^2) / s^2,    down^2 = s'^2 - up^2,    x' = x + d (down - s) + up z */
static void euler_a(Run *r, int i)
{
    float s = r->p.sigmas[i], next = r->p.sigmas[i + 1];
    float up = sqrtf(next * next * (s * s - next * next) / (s * s));
    float down = sqrtf(next * next - up * up);
    for (size_t k = 0; k < r->n; k++) r->x[k] += (r->x[k] - r->x0[k]) / s * (down - s);
    add_fresh_noise(r, up);
}

/* HeunDiscreteScheduler.  Karras et al. 2022, algorithm 1.  Even calls are Euler's; odd ones look
 * at where it led and go again from the start, with the mean of both slopes. */
static void heun(Run *r, int i)
{
    float s = r->p.sigmas[i];
    if (i % 2 == 0) {
        memcpy(r->start, r->x, r->n * sizeof *r->x);
        for (size_t k = 0; k < r->n; k++) r->sum[k] = (r->x[k] - r->x0[k]) / s;
        for (size_t k = 0; k < r->n; k++) r->x[k] += r->sum[k] * (r->p.sigmas[i + 1] - s);
        return;
    }
    float ds = s - r->p.sigmas[i - 1];
    for (size_t k = 0; k < r->n; k++) {
        float slope = (r->sum[k] + (r->x[k] - r->x0[k]) / s) / 2;
        r->x[k] = r->start[k] + slope * ds;
    }
}

/* The integral from s to s' of the j-th Lagrange polynomial through the last `order` sigmas: a
 * cubic at most, so two Gauss points give it exactly. */
static float lms_weight(const float *s, int order, int j)
{
    double middle = ((double)s[1] + s[0]) / 2, half = ((double)s[1] - s[0]) / 2, sum = 0;
    for (int side = -1; side <= 1; side += 2) {
        double at = middle + side * half * 0.57735026918962576, product = 1;
        for (int k = 0; k < order; k++)
            if (k != j) product *= (at - s[-k]) / ((double)s[-j] - s[-k]);
        sum += product;
    }
    return (float)(sum * half);
}

/* LMSDiscreteScheduler.  Adams-Bashforth of order 4 over unequal steps:  x' = x + sum_j w_j d_j */
static void lms(Run *r, int i)
{
    float s = r->p.sigmas[i], weight[4], *slope = remember(r, NULL);
    int order = imin(i + 1, 4), known = imin(i - r->p.first + 1, order);
    for (int j = 0; j < order; j++) weight[j] = lms_weight(r->p.sigmas + i, order, j);
    for (size_t k = 0; k < r->n; k++) {
        slope[k] = (r->x[k] - r->x0[k]) / s;
        float sum = 0;
        for (int j = 0; j < known; j++) sum += weight[j] * r->old[j][k];
        r->x[k] += sum;
    }
}

/* ---- in lambda: dpm++2m, unipc ------------------------------------------------------------- */

/* DPMSolverMultistepScheduler, dpmsolver++.  Lu et al. 2022b, algorithm 2 and its relatives of
 * order 1 and 3, D_j being the differences of the last x0s in lambda:
 *     x' = sigma' / sigma x - alpha' sum_j w_j D_j
 * sde-dpmsolver++ goes twice as far in lambda and adds noise:
 *     x' = sigma' / sigma exp(-h) x - alpha' sum_j w_j D_j + sigma' sqrt(1 - exp(-2 h)) z */
static void dpm_step(Run *r, int i, bool sde)
{
    const Schedule *s = &r->s;
    bool last = i + 1 == r->p.end, few = s->lower_order_final && r->p.end < 15;
    int order = imin(s->solver_order, i - r->p.first + 1);
    if (last && (few || s->euler_at_final || s->final_sigmas_type == ZERO)) order = 1;
    else if (i + 2 == r->p.end && few) order = imin(order, 2);
    remember(r, r->x0);

    Level now = log_level(r, i), next = log_level(r, i + 1);
    float h = next.lambda - now.lambda, far = sde ? 2 * h : h, phi = (float)f_exp(-far) - 1;
    float w1 = s->solver_type == SOLVER_HEUN || order == 3 ? -(phi / far + 1) : 0.5f * phi;
    float w2 = order == 3 ? (phi + far) / (far * far) + (sde ? 0.5f : -0.5f) : 0;
    float of_x = next.sigma / now.sigma * (sde ? (float)f_exp(-h) : 1);
    float r0 = 1, r1 = 1;
    if (order > 1) r0 = (now.lambda - log_level(r, i - 1).lambda) / h;
    if (order > 2) r1 = (log_level(r, i - 1).lambda - log_level(r, i - 2).lambda) / h;
    for (size_t k = 0; k < r->n; k++) {
        float m0 = r->old[0][k], D1 = 0, D2 = 0, sum = phi * m0;
        if (order > 1) D1 = 1 / r0 * (m0 - r->old[1][k]);
        if (order > 2) {
            float before = 1 / r1 * (r->old[1][k] - r->old[2][k]);
            D2 = 1 / (r0 + r1) * (D1 - before);
            D1 += r0 / (r0 + r1) * (D1 - before);
        }
        if (order > 1) sum += w1 * D1 + w2 * D2;
        r->x[k] = of_x * r->x[k] - next.alpha * sum;
    }
    if (sde) add_fresh_noise(r, next.sigma * sqrtf(-phi));
}

static void dpm(Run *r, int i) { dpm_step(r, i, false); }
static void dpm_sde(Run *r, int i) { dpm_step(r, i, true); }

/* w: solve sum_j A[i][j] w_j = b_i for n <= 3 unknowns, by elimination with pivots. */
static void solve(int n, double A[3][3], double b[3], float w[3])
{
    for (int c = 0; c < n; c++) {
        int best = c;
        for (int i = c + 1; i < n; i++)
            if (fabs(A[i][c]) > fabs(A[best][c])) best = i;
        for (int j = 0; j < n; j++) { double t = A[c][j]; A[c][j] = A[best][j]; A[best][j] = t; }
        double t = b[c]; b[c] = b[best]; b[best] = t;
        for (int i = c + 1; i < n; i++) {
            double factor = A[i][c] / A[c][c];
            for (int j = c; j < n; j++) A[i][j] -= factor * A[c][j];
            b[i] -= factor * b[c];
        }
    }
    for (int c = n - 1; c >= 0; c--) {
        for (int j = c + 1; j < n; j++) b[c] -= A[c][j] * w[j];
        w[c] = (float)(b[c] / A[c][c]);
    }
}

/* Zhao et al. 2023, equation 9, from `from` at call i to call i + 1:
 *     x' = sigma' / sigma x - alpha' phi m0 - alpha' B sum_j w_j D_j / r_j,   D_j = m_j - m0
 * The predictor, reached NULL, has the last x0s m0, m1 ...; the corrector also that reached. */
static void unipc_update(Run *r, int i, int order, const float *from, const float *reached)
{
    Level now = log_level(r, i), next = log_level(r, i + 1);
    float h = next.lambda - now.lambda, ratio[3], w[3] = { 0.5f };
    float phi = (float)(f_exp(-h) - 1), B = r->s.solver_type == SOLVER_BH1 ? -h : phi;
    int unknown = reached ? order : order - 1;
    for (int j = 1; j < order; j++) ratio[j - 1] = (log_level(r, i - j).lambda - now.lambda) / h;
    ratio[order - 1] = 1;

    double A[3][3], b[3];
    float power[3] = { 1, 1, 1 }, phi_k = phi / -h - 1, factorial = 1;
    for (int k = 0; k < order; k++) {
        for (int j = 0; j < order; j++) { A[k][j] = power[j]; power[j] *= ratio[j]; }
        b[k] = phi_k * factorial / B;
        factorial *= (float)(k + 2);
        phi_k = phi_k / -h - 1 / factorial;
    }
    if (unknown > 1) solve(unknown, A, b, w);                    /* one alone is taken as 1/2 */

    for (size_t k = 0; k < r->n; k++) {
        float m0 = r->old[0][k], sum = 0;
        for (int j = 1; j < order; j++) sum += w[j - 1] * ((r->old[j][k] - m0) / ratio[j - 1]);
        if (reached) sum += w[order - 1] * (reached[k] - m0);
        r->x[k] = next.sigma / now.sigma * from[k] - next.alpha * phi * m0 - next.alpha * B * sum;
    }
}

static int unipc_order(const Run *r, int i)
{
    int order = imin(r->s.solver_order, i - r->p.first + 1);
    return r->s.lower_order_final ? imin(order, r->p.end - i) : order;
}

/* UniPCMultistepScheduler.  Each prediction first corrects the step that led to it. */
static void unipc(Run *r, int i)
{
    if (i > r->p.first) unipc_update(r, i - 1, unipc_order(r, i - 1), r->start, r->x0);
    remember(r, r->x0);
    memcpy(r->start, r->x, r->n * sizeof *r->x);
    unipc_update(r, i, unipc_order(r, i), r->start, NULL);
}
