/* sampler.c - the samplers of diffusers, each a few lines over the seam Model.  Manual: sampler.h.
 *
 * Names.  a is alphas_cumprod, the share of the picture left in x at a timestep; x0 the clean
 * latents, e the noise, z fresh noise, s a sigma (noise over signal).  A primed value belongs to
 * the next step.  Values are float where the reference has float32 tensors, double where it has
 * NumPy or Python. */
#include "sampler.h"
#include <math.h>
#include <stdlib.h>

/* ---- methods: the defaults of their classes ------------------------------------------------ */

enum { LINEAR, SCALED_LINEAR, SQUAREDCOS };
enum { LINSPACE, LEADING, TRAILING };
enum { ZERO, SIGMA_MIN };
enum { MIDPOINT, HEUN, LOGRHO, BH1, BH2 };
enum { FIXED_SMALL, FIXED_SMALL_LOG, FIXED_LARGE, FIXED_LARGE_LOG, LEARNED, LEARNED_RANGE };
enum { DPMSOLVERPP, DEIS, DPMSOLVER, SDE_DPMSOLVER, SDE_DPMSOLVERPP };
enum { DISCRETE, KARRAS, EXPONENTIAL, SPACED };       /* SPACED + a spacing: discrete with it */

/* What x is at a step: sqrt(a) x0 + sqrt(1-a) e, known by its timestep; the same, known by s; or
 * x0 + s e. */
enum { BY_TIMESTEP, BY_SIGMA, UNSCALED };

typedef struct Run Run;

/* What a class knows of: sigmas by a formula when asked for, and by use_karras_sigmas and
 * use_exponential_sigmas; terminal SNR 0; clipping; models that predict x0; two calls a step; any
 * list of timesteps (others go by the distance of two). */
enum { HAS_KARRAS = 1, FILE_KARRAS = 2, RESCALES = 4, CLIPS = 8, TAKES_SAMPLE = 16, TWICE = 32,
       ANY_LIST = 64 };

typedef struct {
    const char *name, *class_name;
    void (*step)(Run *r, int i);            /* x at call i -> x at call i + 1 */
    int form, knows;
    /* for what the file leaves out */
    int timestep_spacing, set_alpha_to_one, clip_sample;
    double beta_start, beta_end; int beta_schedule;
} Method;

static void ddim(Run *r, int i), ddpm(Run *r, int i), pndm(Run *r, int i), euler(Run *r, int i);
static void euler_a(Run *r, int i), heun(Run *r, int i), lms(Run *r, int i), dpm(Run *r, int i);
static void unipc(Run *r, int i), lcm(Run *r, int i), dpm_sde(Run *r, int i), tcd(Run *r, int i);

static const Method methods[] = {
    { "ddim", "DDIMScheduler", ddim, BY_TIMESTEP,
      RESCALES | CLIPS | TAKES_SAMPLE, LEADING, 1, 1, 0.0001, 0.02, LINEAR },
    { "ddpm", "DDPMScheduler", ddpm, BY_TIMESTEP,
      ANY_LIST | RESCALES | CLIPS | TAKES_SAMPLE, LEADING, 1, 1, 0.0001, 0.02, LINEAR },
    { "pndm", "PNDMScheduler", pndm, BY_TIMESTEP,
      0, LEADING, 0, 0, 0.0001, 0.02, LINEAR },
    { "euler", "EulerDiscreteScheduler", euler, UNSCALED,
      ANY_LIST | HAS_KARRAS | FILE_KARRAS | RESCALES | TAKES_SAMPLE,
      LINSPACE, 0, 0, 0.0001, 0.02, LINEAR },
    { "euler_a", "EulerAncestralDiscreteScheduler", euler_a, UNSCALED,
      ANY_LIST | HAS_KARRAS | RESCALES, LINSPACE, 0, 0, 0.0001, 0.02, LINEAR },
    { "heun", "HeunDiscreteScheduler", heun, UNSCALED,
      ANY_LIST | HAS_KARRAS | FILE_KARRAS | CLIPS | TAKES_SAMPLE | TWICE,
      LINSPACE, 0, 0, 0.00085, 0.012, LINEAR },
    { "lms", "LMSDiscreteScheduler", lms, UNSCALED,
      ANY_LIST | HAS_KARRAS | FILE_KARRAS | TAKES_SAMPLE, LINSPACE, 0, 0, 0.0001, 0.02, LINEAR },
    { "dpm++2m", "DPMSolverMultistepScheduler", dpm, BY_SIGMA,
      ANY_LIST | HAS_KARRAS | FILE_KARRAS | RESCALES | TAKES_SAMPLE,
      LINSPACE, 0, 0, 0.0001, 0.02, LINEAR },
    { "unipc", "UniPCMultistepScheduler", unipc, BY_SIGMA,
      ANY_LIST | HAS_KARRAS | FILE_KARRAS | RESCALES | TAKES_SAMPLE,
      LINSPACE, 0, 0, 0.0001, 0.02, LINEAR },
    { "lcm", "LCMScheduler", lcm, BY_TIMESTEP,
      ANY_LIST | RESCALES | CLIPS | TAKES_SAMPLE, LEADING, 1, 0, 0.00085, 0.012, SCALED_LINEAR },
    { "dpm++2m_sde", "", dpm_sde, BY_SIGMA,
      ANY_LIST | HAS_KARRAS | FILE_KARRAS | RESCALES | TAKES_SAMPLE,
      LINSPACE, 0, 0, 0.0001, 0.02, LINEAR },
    { "tcd", "TCDScheduler", tcd, BY_TIMESTEP,
      ANY_LIST | RESCALES | TAKES_SAMPLE, LEADING, 1, 0, 0.00085, 0.012, SCALED_LINEAR },
};

static int calls_a_step(const Method *m) { return m->knows & TWICE ? 2 : 1; }

int sampler_method(const char *name)
{
    if (!strcmp(name, "plms")) name = "pndm";
    for (size_t i = 0; i < countof(methods); i++)
        if (!strcmp(name, methods[i].name)) return (int)i;
    return -1;
}

static const char *const schedules[] = { "discrete", "karras", "exponential", "linspace", "leading",
                                         "trailing" };

int sampler_schedule(const char *name)
{
    if (!strcmp(name, "sgm_uniform")) name = "trailing";
    for (size_t i = 0; i < countof(schedules); i++)
        if (!strcmp(name, schedules[i])) return (int)i;
    return -1;
}

const char *sampler_name(int method) { return methods[method].name; }
const char *sampler_schedule_name(int schedule) { return schedules[schedule]; }
const char *sampler_methods(void)
{
    return "ddim, ddpm, pndm, euler, euler_a, heun, lms, dpm++2m, unipc, lcm, dpm++2m_sde, tcd";
}
const char *sampler_schedules(void)
{
    return "discrete, karras, exponential, linspace, leading, trailing, sgm_uniform";
}
bool sampler_has_karras(int method) { return methods[method].knows & HAS_KARRAS; }
bool sampler_has_eta(int method)
{
    return methods[method].step == ddim || methods[method].step == tcd;
}

/* ---- scheduler_config.json ----------------------------------------------------------------- */

enum { WHOLE, NUMBER, SWITCH, WORD };

static const struct Key {
    const char *name;
    int type;
    size_t field;
    double low, high;
    const char *words;                      /* of a WORD: its number is its place */
} keys[] = {
    { "num_train_timesteps", WHOLE, F(Schedule, num_train_timesteps), 2, 100000, NULL },
    { "beta_start", NUMBER, F(Schedule, beta_start), 1e-7, 0.999, NULL },
    { "beta_end", NUMBER, F(Schedule, beta_end), 1e-7, 0.999, NULL },
    { "beta_schedule", WORD, F(Schedule, beta_schedule), 0, 0,
      "linear|scaled_linear|squaredcos_cap_v2" },
    { "prediction_type", WORD, F(Schedule, prediction_type), 0, 0, "epsilon|v_prediction|sample" },
    { "timestep_spacing", WORD, F(Schedule, timestep_spacing), 0, 0, "linspace|leading|trailing" },
    { "steps_offset", WHOLE, F(Schedule, steps_offset), 0, 100000, NULL },
    { "rescale_betas_zero_snr", SWITCH, F(Schedule, rescale_betas_zero_snr), 0, 0, NULL },
    { "clip_sample", SWITCH, F(Schedule, clip_sample), 0, 0, NULL },
    { "clip_sample_range", NUMBER, F(Schedule, clip_sample_range), 1e-6, 1e6, NULL },
    { "set_alpha_to_one", SWITCH, F(Schedule, set_alpha_to_one), 0, 0, NULL },
    { "skip_prk_steps", SWITCH, F(Schedule, skip_prk_steps), 0, 0, NULL },
    { "variance_type", WORD, F(Schedule, variance_type), 0, 0,
      "fixed_small|fixed_small_log|fixed_large|fixed_large_log|learned|learned_range" },
    { "use_karras_sigmas", SWITCH, F(Schedule, use_karras_sigmas), 0, 0, NULL },
    { "use_exponential_sigmas", SWITCH, F(Schedule, use_exponential_sigmas), 0, 0, NULL },
    { "final_sigmas_type", WORD, F(Schedule, final_sigmas_type), 0, 0, "zero|sigma_min" },
    { "solver_order", WHOLE, F(Schedule, solver_order), 1, 3, NULL },
    { "solver_type", WORD, F(Schedule, solver_type), 0, 0, "midpoint|heun|logrho|bh1|bh2" },
    { "algorithm_type", WORD, F(Schedule, algorithm_type), 0, 0,
      "dpmsolver++|deis|dpmsolver|sde-dpmsolver|sde-dpmsolver++" },
    { "lower_order_final", SWITCH, F(Schedule, lower_order_final), 0, 0, NULL },
    { "euler_at_final", SWITCH, F(Schedule, euler_at_final), 0, 0, NULL },
    { "original_inference_steps", WHOLE, F(Schedule, original_inference_steps), 1, 100000, NULL },
    { "timestep_scaling", NUMBER, F(Schedule, timestep_scaling), 1e-6, 1e6, NULL },
};

/* Settings that lead elsewhere, and the one value that each may have beside null, false and []. */
static const struct { const char *name, *only; } fixed_keys[] = {
    { "trained_betas", NULL }, { "thresholding", NULL },
    { "use_beta_sigmas", NULL }, { "use_lu_lambdas", NULL }, { "use_flow_sigmas", NULL },
    { "use_dynamic_shifting", NULL }, { "shift_terminal", NULL }, { "sigma_min", NULL },
    { "sigma_max", NULL }, { "solver_p", NULL }, { "disable_corrector", NULL },
    { "predict_x0", "true" }, { "interpolation_type", "linear" }, { "timestep_type", "discrete" },
    { "lambda_min_clipped", "-Infinity" },
};

/* A value in a message. */
static const char *spelled(const Json *j)
{
    switch (j->type) {
    case JSON_NULL: return "null";
    case JSON_BOOL: return j->truth ? "true" : "false";
    case JSON_ARRAY: return "a list";
    case JSON_OBJECT: return "an object";
    default: return j->text;
    }
}

static bool read_word(const Json *config, const struct Key *k, int *out, const char *where,
                      Error *e)
{
    const char *word = NULL;
    if (!json_string(config, k->name, &word, where, e)) return false;
    if (!word) return true;
    size_t length = strlen(word);
    int number = 0;
    for (const char *w = k->words; ; number++) {
        size_t n = strcspn(w, "|");
        if (n == length && !memcmp(w, word, n)) {
            *out = number;
            return true;
        }
        if (!w[n])
            return fail(e, "%s: %s: found '%s', wanted one of %s", where, k->name, word, k->words);
        w += n + 1;
    }
}

static bool read_key(Schedule *s, const Json *config, const struct Key *k, const char *where,
                     Error *e)
{
    void *field = (char *)s + k->field;
    bool truth = false;
    switch (k->type) {
    case WHOLE: return json_int(config, k->name, (int)k->low, (int)k->high, field, where, e);
    case NUMBER: return json_float(config, k->name, k->low, k->high, field, where, e);
    case WORD: return read_word(config, k, field, where, e);
    }
    const Json *j = json_get(config, k->name);
    if (!j || j->type == JSON_NULL) return true;
    if (!json_bool(config, k->name, &truth, where, e)) return false;
    *(int *)field = truth;
    return true;
}

bool schedule_read(Schedule *s, const Json *config, const char *where, Error *e)
{
    if (config->type != JSON_OBJECT)
        return fail(e, "%s: found %s, wanted an object", where, spelled(config));
    *s = (Schedule){ .method = -1, .num_train_timesteps = 1000, .prediction_type = EPSILON,
        .clip_sample_range = 1, .variance_type = FIXED_SMALL, .final_sigmas_type = ZERO,
        .solver_order = 2, .solver_type = -1, .algorithm_type = DPMSOLVERPP,
        .lower_order_final = 1, .original_inference_steps = 50, .timestep_scaling = 10,
        .beta_start = -1, .beta_end = -1, .beta_schedule = -1, .timestep_spacing = -1,
        .clip_sample = -1, .set_alpha_to_one = -1 };

    const char *class_name = "";
    if (!json_string(config, "_class_name", &class_name, where, e)) return false;
    snprintf(s->class_name, sizeof s->class_name, "%s", class_name);
    for (size_t i = 0; i < countof(methods); i++)
        if (*class_name && !strcmp(class_name, methods[i].class_name)) s->method = (int)i;

    for (size_t i = 0; i < countof(keys); i++)
        if (!read_key(s, config, &keys[i], where, e)) return false;
    if (s->method >= 0 && methods[s->method].step == dpm && s->algorithm_type == SDE_DPMSOLVERPP)
        s->method = sampler_method("dpm++2m_sde");
    for (size_t i = 0; i < countof(fixed_keys); i++) {
        const char *only = fixed_keys[i].only;
        const Json *j = json_get(config, fixed_keys[i].name);
        bool off = !j || j->type == JSON_NULL || (j->type == JSON_BOOL && !j->truth && !only)
                || (j->type == JSON_ARRAY && !j->count);
        if (!off && !(only && !strcmp(spelled(j), only)))
            return fail(e, "%s: %s: found %s, wanted %s: no method here can follow it", where,
                        fixed_keys[i].name, spelled(j), only ? only : "none");
    }
    if (s->beta_start > 0 && s->beta_end > 0 && s->beta_end < s->beta_start)
        return fail(e, "%s: beta_end: found %g, wanted at least beta_start %g", where,
                    s->beta_end, s->beta_start);
    return true;
}

void schedule_as_sd(Schedule *s, bool mask)
{
    s->steps_offset = 1;
    if (mask) s->skip_prk_steps = 1;
    else s->clip_sample = 0;
}

/* s with the defaults of the class in place of what the file leaves out. */
static Schedule resolved(const Schedule *s, const Method *m)
{
    Schedule full = *s;
    if (full.beta_start < 0) full.beta_start = m->beta_start;
    if (full.beta_end < 0) full.beta_end = m->beta_end;
    if (full.beta_schedule < 0) full.beta_schedule = m->beta_schedule;
    if (full.timestep_spacing < 0) full.timestep_spacing = m->timestep_spacing;
    if (full.clip_sample < 0) full.clip_sample = m->clip_sample;
    if (full.set_alpha_to_one < 0) full.set_alpha_to_one = m->set_alpha_to_one;
    full.rescale_betas_zero_snr = full.rescale_betas_zero_snr && (m->knows & RESCALES);
    full.clip_sample = full.clip_sample && (m->knows & CLIPS);
    if (m->step == dpm && full.algorithm_type == SDE_DPMSOLVERPP) full.algorithm_type = DPMSOLVERPP;
    if (m->step == dpm_sde) full.algorithm_type = SDE_DPMSOLVERPP;
    return full;
}

/* ---- alphas_cumprod ------------------------------------------------------------------------ */

/* torch.linspace(low, high, n)[i] in float32: from whichever end is nearer. */
static float torch_linspace(float low, float high, int n, int i)
{
    float step = (high - low) / (float)(n - 1);
    return i < n / 2 ? fmaf(step, (float)i, low) : fmaf(-step, (float)(n - i - 1), high);
}

static float beta(const Schedule *s, int i)
{
    int n = s->num_train_timesteps;
    double low = s->beta_start, high = s->beta_end;
    if (s->beta_schedule == LINEAR) return torch_linspace((float)low, (float)high, n, i);
    if (s->beta_schedule == SCALED_LINEAR) {
        float root = torch_linspace((float)sqrt(low), (float)sqrt(high), n, i);
        return root * root;
    }
    const double half_pi = 0x1.921fb54442d18p0;           /* Nichol, Dhariwal 2021, equation 17 */
    double now = f_cos(((double)i / n + 0.008) / 1.008 * half_pi);
    double next = f_cos(((double)(i + 1) / n + 0.008) / 1.008 * half_pi);
    double b = 1 - next * next / (now * now);
    return (float)(b < 0.999 ? b : 0.999);
}

/* torch.cumprod: sums in double, stores float. */
static void running_product(float *a, int n)
{
    double product = 1;
    for (int i = 0; i < n; i++) a[i] = (float)(product *= a[i]);
}

/* Lin et al. 2023, algorithm 1: no signal is left at the last timestep.  a: 1 - beta, in place. */
static void rescale_zero_terminal_snr(float *a, int n)
{
    running_product(a, n);
    for (int i = 0; i < n; i++) a[i] = sqrtf(a[i]);
    float last = a[n - 1], scale = a[0] / (a[0] - last);
    for (int i = 0; i < n; i++) {
        float root = (a[i] - last) * scale;
        a[i] = root * root;
    }
    for (int i = n - 1; i >= 0; i--) a[i] = 1 - (1 - (i ? a[i] / a[i - 1] : a[i]));
}

static bool alphas_cumprod(SamplerPlan *p, const Schedule *s, Error *e)
{
    int n = s->num_train_timesteps;
    float *a = p->alphas;
    for (int i = 0; i < n; i++) a[i] = 1 - beta(s, i);
    if (s->rescale_betas_zero_snr) rescale_zero_terminal_snr(a, n);
    running_product(a, n);
    if (s->rescale_betas_zero_snr && methods[p->method].form != BY_TIMESTEP) a[n - 1] = 0x1p-24f;
    for (int i = 0; i < n; i++) {
        bool allowed = a[i] > 0 || (s->rescale_betas_zero_snr && i == n - 1
                                    && s->prediction_type != EPSILON);
        if (!allowed || !(a[i] < 1))
            return fail(e, "%s: alphas_cumprod at timestep %d: found %g, wanted between 0 and 1%s",
                        methods[p->method].name, i, (double)a[i],
                        s->rescale_betas_zero_snr ? " (rescale_betas_zero_snr with epsilon)" : "");
    }
    return true;
}

/* ---- timesteps and sigmas ------------------------------------------------------------------ */

/* numpy.linspace(low, high, n)[i]. */
static double linspace(double low, double high, int n, int i)
{
    if (i == n - 1 && n > 1) return high;
    return n > 1 ? i * ((high - low) / (n - 1)) + low : low;
}

/* The i-th of n timesteps, from the noisiest down (Lin et al. 2023, table 2, names the spacings).
 * Whole ones round half to even.  The solvers in lambda space n + 1 and leave out the last. */
static double spaced(const Schedule *s, int form, int n, int i)
{
    int points = form == BY_SIGMA ? n + 1 : n, last = s->num_train_timesteps, up = points - 1 - i;
    if (s->timestep_spacing == LINSPACE) {
        double t = linspace(0, last - 1, points, up);
        return form == UNSCALED ? (float)t : rint(t);
    }
    if (s->timestep_spacing == LEADING) return (double)up * (last / points) + s->steps_offset;
    double second = last - (double)last / n;             /* numpy.arange steps by its first gap */
    return rint(last + i * (second - last)) - 1;
}

/* Liu et al. 2022: Runge-Kutta steps look four times at three steps' ends and middles, then linear
 * multistep; or, without them, the second timestep twice. */
static void pndm_timesteps(SamplerPlan *p, const Schedule *s, int n)
{
    int k = 0, half = s->num_train_timesteps / n / 2;
    float *t = p->timesteps;
    for (int i = 0; !s->skip_prk_steps && i < 3; i++) {
        float from = (float)spaced(s, BY_TIMESTEP, n, i);
        float to = (float)spaced(s, BY_TIMESTEP, n, i + 1);
        t[k] = from;
        t[k + 1] = t[k + 2] = to + (float)half;
        t[k + 3] = to;
        k += 4;
    }
    for (int i = s->skip_prk_steps ? 0 : 3; i < n; i++) {
        t[k++] = (float)spaced(s, BY_TIMESTEP, n, i);
        if (s->skip_prk_steps && i == 1) { t[k] = t[k - 1]; k++; }
    }
    p->end = k;
}

/* Luo et al. 2023: the steps that the model was distilled for, n of them. */
static void lcm_timesteps(SamplerPlan *p, const Schedule *s, int n)
{
    int all = s->original_inference_steps, gap = s->num_train_timesteps / all;
    for (int i = 0; i < n; i++)
        p->timesteps[i] = (float)((all - (int)(i * ((double)all / n))) * gap - 1);
    p->end = n;
}

static float sigma_of(const SamplerPlan *p, int t)
{
    return sqrtf((1 - p->alphas[t]) / p->alphas[t]);
}

/* numpy.interp over all timesteps. */
static double sigma_at(const SamplerPlan *p, double t)
{
    int low = (int)t;
    if (low >= p->alpha_count - 1) return sigma_of(p, p->alpha_count - 1);
    double from = sigma_of(p, low);
    return (sigma_of(p, low + 1) - from) * (t - low) + from;
}

/* Karras et al. 2022, equation 5, with rho = 7. */
static double karras_sigma(double high, double low, int n, int i)
{
    double from = f_pow(high, 1 / 7.0), to = f_pow(low, 1 / 7.0);
    return f_pow(from + linspace(0, 1, n, i) * (to - from), 7);
}

/* k-diffusion's exponential schedule: even in log sigma. */
static double exponential_sigma(double high, double low, int n, int i)
{
    return f_exp(linspace(f_log(high), f_log(low), n, i));
}

/* The timestep of a sigma, linear in log sigma. */
static double timestep_of(const SamplerPlan *p, double sigma)
{
    double log_sigma = f_log(sigma > 1e-10 ? sigma : 1e-10);
    int low = 0, high = p->alpha_count - 1;                  /* the last whose log is not above */
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (log_sigma >= (float)f_log(sigma_of(p, middle))) low = middle;
        else high = middle;
    }
    float from = (float)f_log(sigma_of(p, low)), to = (float)f_log(sigma_of(p, low + 1));
    double w = (from - log_sigma) / (from - to);
    w = w > 0 ? w < 1 ? w : 1 : 0;
    return (1 - w) * low + w * (low + 1);
}

static void sigma_timesteps(SamplerPlan *p, const Schedule *s, const SamplerOptions *o, int n)
{
    const Method *m = &methods[p->method];
    bool by_sigma = m->form == BY_SIGMA, by_karras = p->schedule == KARRAS,
         formula = by_karras || p->schedule == EXPONENTIAL;
    double high = sigma_at(p, by_sigma ? p->alpha_count - 1 : spaced(s, m->form, n, 0));
    double low = sigma_at(p, by_sigma ? 0 : spaced(s, m->form, n, n - 1));
    for (int i = 0; i < n; i++) {
        double t = o->timesteps ? o->timesteps[i] : spaced(s, m->form, n, i);
        double sigma = o->sigmas ? o->sigmas[i]
                     : by_karras ? karras_sigma(high, low, n, i)
                     : p->schedule == EXPONENTIAL ? exponential_sigma(high, low, n, i)
                     : sigma_at(p, t);
        if (formula || o->sigmas) t = timestep_of(p, sigma);
        if (by_karras && (m->step == unipc || (by_sigma && s->beta_schedule != SQUAREDCOS)))
            t = rint(t);
        p->timesteps[i] = by_sigma ? (float)(int)t : (float)t;
        p->sigmas[i] = (float)sigma;
    }
    bool ends_above = s->final_sigmas_type == SIGMA_MIN && (by_sigma || m->step == euler);
    p->sigmas[n] = o->sigmas ? (float)o->sigmas[n] : !ends_above ? 0
                 : m->step == unipc && formula ? p->sigmas[n - 1] : sigma_of(p, 0);
    p->end = n;
}

/* Heun looks twice at every step but the first and the last: t0 t1 t1 t2 t2 ... */
static void twice(SamplerPlan *p)
{
    int n = p->end;
    p->end = 2 * n - 1;
    p->sigmas[p->end] = p->sigmas[n];
    for (int i = p->end - 1; i > 0; i--) {
        p->timesteps[i] = p->timesteps[(i + 1) / 2];
        p->sigmas[i] = p->sigmas[(i + 1) / 2];
    }
}

/* ---- the plan ------------------------------------------------------------------------------ */

/* Rooms of count values that a run takes: prediction, x0, fresh noise, six of memory, the mask. */
enum { ROOMS = 10 };

/* A word of the file that m cannot follow. */
static bool refuse_word(const Method *m, const char *key, int number, const char *wanted, Error *e)
{
    size_t i = 0;
    while (strcmp(keys[i].name, key)) i++;
    const char *word = keys[i].words;
    while (number--) word = strchr(word, '|') + 1;
    return fail(e, "%s: %s: found %.*s, wanted %s", m->name, key, (int)strcspn(word, "|"), word,
                wanted);
}

/* Lists of timesteps or sigmas that fall. */
static bool lists_fall(const SamplerOptions *o, const SamplerPlan *p, const Schedule *s, Error *e)
{
    const Method *m = &methods[p->method];
    const double *list = o->sigmas ? o->sigmas : o->timesteps;
    const char *what = o->sigmas ? "sigmas" : "timesteps";
    const double most = o->sigmas ? 1e6 : s->num_train_timesteps - 1;
    if (!list) return true;
    if (o->sigmas && o->timesteps)
        return fail(e, "%s: sigmas: found timesteps too, wanted one of them", m->name);
    if (!(m->knows & ANY_LIST) || (o->sigmas && m->form == BY_TIMESTEP))
        return fail(e, "%s: %s: found some, wanted a method that goes by them", m->name, what);
    if (p->schedule != DISCRETE)
        return fail(e, "%s: schedule: found %s, wanted discrete beside %s", m->name,
                    schedules[p->schedule], what);
    for (int i = 0; i < o->steps + (o->sigmas != NULL); i++)
        if (!(list[i] >= 0 && list[i] <= most) || (i && list[i] >= list[i - 1])
            || (!o->sigmas && list[i] != rint(list[i])))
            return fail(e, "%s: %s: found %g, wanted %s that fall, in 0..%g", m->name, what,
                        list[i], o->sigmas ? "numbers" : "whole numbers", most);
    return true;
}

/* What a method cannot do with these settings. */
static bool possible(const Schedule *s, const SamplerOptions *o, const SamplerPlan *p, Error *e)
{
    const Method *m = &methods[p->method];
    const bool distilled = m->step == lcm || m->step == tcd;
    int most = s->num_train_timesteps;
    if (distilled) most = imin(most, s->original_inference_steps);
    int least = m->step == pndm && !s->skip_prk_steps ? 4 : 1;
    if (o->steps < least || o->steps > most)
        return fail(e, "%s: steps: found %d, wanted %d..%d", m->name, o->steps, least, most);
    if ((p->schedule == KARRAS || p->schedule == EXPONENTIAL) && !(m->knows & HAS_KARRAS))
        return fail(e, "%s: schedule: found %s, wanted discrete: it goes by timestep", m->name,
                    schedules[p->schedule]);
    if (p->schedule >= SPACED && distilled)
        return fail(e, "%s: schedule: found %s, wanted discrete: it takes the steps that the model "
                    "was distilled for", m->name, schedules[p->schedule]);
    if (!lists_fall(o, p, s, e)) return false;
    const bool has_eta = sampler_has_eta(p->method);
    if (!(o->eta >= 0 && o->eta <= 1) || (o->eta > 0 && !has_eta))
        return fail(e, "%s: eta: found %g, wanted %s", m->name, o->eta, has_eta ? "0..1" : "0");
    if (o->mask && !o->picture) return fail(e, "%s: mask: found no picture, wanted one", m->name);
    if (o->picture && !(o->strength >= 0 && o->strength <= 1))
        return fail(e, "%s: strength: found %g, wanted 0..1", m->name, o->strength);
    if (o->picture && (int)(o->steps * o->strength) == 0)
        return fail(e, "%s: strength: found %g, which runs none of %d steps, wanted %g..1", m->name,
                    o->strength, o->steps, 1.0 / o->steps);
    if (s->prediction_type == SAMPLE && !(m->knows & TAKES_SAMPLE))
        return refuse_word(m, "prediction_type", SAMPLE, "epsilon or v_prediction", e);
    if (m->step == dpm && s->algorithm_type >= DPMSOLVER)
        return refuse_word(m, "algorithm_type", s->algorithm_type, "dpmsolver++", e);
    if ((m->step == ddpm || m->step == dpm || m->step == dpm_sde)
        && s->variance_type >= FIXED_LARGE_LOG)
        return refuse_word(m, "variance_type", s->variance_type,
                           "fixed_small, fixed_small_log or fixed_large", e);
    bool to_zero = m->step == unipc && s->final_sigmas_type == ZERO;
    if (to_zero && !s->lower_order_final && s->solver_order > 1)
        return fail(e, "%s: lower_order_final: found false, wanted true where the last sigma is 0",
                    m->name);
    if (to_zero && s->solver_type == BH1)
        return refuse_word(m, "solver_type", BH1, "bh2 where the last sigma is 0", e);
    return true;
}

/* Timesteps that exist, sigmas that fall. */
static bool consistent(const SamplerPlan *p, const Schedule *s, int steps, Error *e)
{
    const Method *m = &methods[p->method];
    for (int i = 0; i < p->end; i++) {
        float t = p->timesteps[i];
        if (!(t >= 0 && t < (float)p->alpha_count))
            return fail(e, "%s: %d steps: found timestep %g, wanted 0..%d: take fewer steps",
                        m->name, steps, (double)t, p->alpha_count - 1);
        int next = i + calls_a_step(m);
        if (p->sigmas && next < p->end && !(p->sigmas[i] > p->sigmas[next]))
            return fail(e, "%s: %d steps: found one sigma twice at timestep %g: take fewer steps",
                        m->name, steps, (double)t);
    }
    if (m->form != BY_SIGMA || s->solver_order < 3) return true;
    bool simple_end = m->step == unipc ? s->lower_order_final
                    : s->euler_at_final || (s->lower_order_final && p->end < 15);
    if (!simple_end && !(p->sigmas[p->end - 1] > p->sigmas[p->end]))
        return fail(e, "%s: solver_order: found %d, wanted 1..2 where the last sigma comes twice",
                    m->name, s->solver_order);
    return true;
}

bool sampler_plan(SamplerPlan *p, const Schedule *schedule, const SamplerOptions *o, Error *e)
{
    *p = (SamplerPlan){ .method = o->method >= 0 ? o->method : schedule->method };
    if (p->method < 0)
        return fail(e, "scheduler: found %s, wanted one of %s",
                    *schedule->class_name ? schedule->class_name : "no _class_name",
                    sampler_methods());
    const Method *m = &methods[p->method];
    Schedule s = resolved(schedule, m);
    if (m->knows & FILE_KARRAS)
        p->schedule = s.use_karras_sigmas ? KARRAS
                    : s.use_exponential_sigmas ? EXPONENTIAL : DISCRETE;
    if (o->schedule >= 0 || o->timesteps || o->sigmas)
        p->schedule = imax(o->schedule, DISCRETE);
    if (p->schedule >= SPACED) s.timestep_spacing = p->schedule - SPACED;
    if (!possible(&s, o, p, e)) return false;

    p->alpha_count = s.num_train_timesteps;
    size_t list = 2 * (size_t)o->steps + 16, alphas = (size_t)p->alpha_count;
    p->timesteps = calloc(2 * list + alphas, sizeof *p->timesteps);
    if (!p->timesteps) return fail(e, "%s: out of memory: needed room for the schedule", m->name);
    p->alphas = p->timesteps + 2 * list;
    if (m->form != BY_TIMESTEP) p->sigmas = p->timesteps + list;
    if (!alphas_cumprod(p, &s, e)) return sampler_plan_free(p), false;

    if (m->step == pndm) pndm_timesteps(p, &s, o->steps);
    else if (p->sigmas) sigma_timesteps(p, &s, o, o->steps);
    else if ((m->step == lcm || m->step == tcd) && !o->timesteps) lcm_timesteps(p, &s, o->steps);
    else for (; p->end < o->steps; p->end++)
        p->timesteps[p->end] = (float)(o->timesteps ? o->timesteps[p->end]
                                                    : spaced(&s, m->form, o->steps, p->end));
    if (m->knows & TWICE) twice(p);
    if (o->picture) p->first = (o->steps - (int)(o->steps * o->strength)) * calls_a_step(m);
    if (!consistent(p, &s, o->steps, e)) return sampler_plan_free(p), false;

    p->start = m->form == UNSCALED ? p->sigmas[0] : 1;
    if (m->form == UNSCALED && s.timestep_spacing == LEADING)
        p->start = sqrtf(p->start * p->start + 1);
    if (!size_mul(o->count, ROOMS * sizeof(float), &p->memory)) p->memory = SIZE_MAX;
    return true;
}

void sampler_plan_free(SamplerPlan *p)
{
    free(p->timesteps);
    *p = (SamplerPlan){ 0 };
}

/* ---- the run ------------------------------------------------------------------------------- */

struct Run {
    const Method *method;
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
};

/* x = alpha x0 + sigma e before call i. */
typedef struct { float alpha, sigma, lambda; } Level;

static float alpha_at(const Run *r, float t)
{
    if (t < 0) return r->s.set_alpha_to_one ? 1 : r->p.alphas[0];
    return r->p.alphas[imin((int)t, r->p.alpha_count - 1)];
}

static Level level(const Run *r, int i)
{
    if (r->method->form == BY_TIMESTEP) {
        float a = alpha_at(r, r->p.timesteps[i]);
        return (Level){ sqrtf(a), sqrtf(1 - a), 0 };
    }
    float s = r->p.sigmas[i], alpha = 1 / sqrtf(s * s + 1);
    if (r->method->form == UNSCALED) return (Level){ 1, s, 0 };
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
    if (r->method->form == UNSCALED) {                           /* scale_model_input */
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
        r->method->step(r, i);
        if (o->mask) keep_unmasked(r, i + 1);
        for (size_t k = 0; k < r->n; k++)
            if (!isfinite(r->x[k]))
                return fail(e, "%s: step %d of %d: not finite", r->method->name, call, calls);
        if (o->each && !o->each(o->self, call, calls, r->x, r->x0))
            return fail(e, "%s: step %d of %d: stopped", r->method->name, call, calls);
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
    r.method = &methods[r.p.method];
    r.s = resolved(s, r.method);
    r.stride = r.s.num_train_timesteps / o->steps;

    float *rooms = size_mul(o->count, ROOMS, &all) ? calloc(all, sizeof *rooms) : NULL;
    if (!rooms) {
        sampler_plan_free(&r.p);
        return fail(e, "%s: out of memory: needed room for %zu latents", r.method->name, o->count);
    }
    float **room[ROOMS] = { &r.m, &r.x0, &r.z, &r.old[0], &r.old[1], &r.old[2], &r.old[3],
                            &r.start, &r.sum, &r.noise };
    for (int i = 0; i < ROOMS; i++) *room[i] = rooms + (size_t)i * o->count;

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
    float w1 = s->solver_type == HEUN || order == 3 ? -(phi / far + 1) : 0.5f * phi;
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
    float phi = (float)(f_exp(-h) - 1), B = r->s.solver_type == BH1 ? -h : phi;
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
