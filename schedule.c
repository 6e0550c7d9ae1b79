/* schedule.c - which noise at which step: the methods' defaults, scheduler_config.json, timesteps
 * and sigmas, the plan of a run.  Manual: schedule.h.
 *
 * Values are float where the reference has float32 tensors, double where it has NumPy or Python. */
#include "schedule.h"
#include <math.h>
#include <stdlib.h>

/* ---- methods: the defaults of their classes ------------------------------------------------ */

enum { LINEAR, SCALED_LINEAR, SQUAREDCOS };
enum { LINSPACE, LEADING, TRAILING };
enum { DPMSOLVERPP, DEIS, DPMSOLVER, SDE_DPMSOLVER, SDE_DPMSOLVERPP };
enum { DISCRETE, KARRAS, EXPONENTIAL, SPACED };       /* SPACED + a spacing: discrete with it */

/* What a class knows of: sigmas by a formula when asked for, and by use_karras_sigmas and
 * use_exponential_sigmas; terminal SNR 0; clipping; models that predict x0; two calls a step; any
 * list of timesteps (others go by the distance of two). */
enum { HAS_KARRAS = 1, FILE_KARRAS = 2, RESCALES = 4, CLIPS = 8, TAKES_SAMPLE = 16, TWICE = 32,
       ANY_LIST = 64 };

typedef struct {
    const char *name, *class_name;
    int form, knows;
    /* for what the file leaves out */
    int timestep_spacing, set_alpha_to_one, clip_sample;
    double beta_start, beta_end; int beta_schedule;
} Method;

static const Method methods[SAMPLER_METHODS] = {
    [DDIM] = { "ddim", "DDIMScheduler", BY_TIMESTEP,
      RESCALES | CLIPS | TAKES_SAMPLE, LEADING, 1, 1, 0.0001, 0.02, LINEAR },
    [DDPM] = { "ddpm", "DDPMScheduler", BY_TIMESTEP,
      ANY_LIST | RESCALES | CLIPS | TAKES_SAMPLE, LEADING, 1, 1, 0.0001, 0.02, LINEAR },
    [PNDM] = { "pndm", "PNDMScheduler", BY_TIMESTEP,
      0, LEADING, 0, 0, 0.0001, 0.02, LINEAR },
    [EULER] = { "euler", "EulerDiscreteScheduler", UNSCALED,
      ANY_LIST | HAS_KARRAS | FILE_KARRAS | RESCALES | TAKES_SAMPLE,
      LINSPACE, 0, 0, 0.0001, 0.02, LINEAR },
    [EULER_A] = { "euler_a", "EulerAncestralDiscreteScheduler", UNSCALED,
      ANY_LIST | HAS_KARRAS | RESCALES, LINSPACE, 0, 0, 0.0001, 0.02, LINEAR },
    [HEUN] = { "heun", "HeunDiscreteScheduler", UNSCALED,
      ANY_LIST | HAS_KARRAS | FILE_KARRAS | CLIPS | TAKES_SAMPLE | TWICE,
      LINSPACE, 0, 0, 0.00085, 0.012, LINEAR },
    [LMS] = { "lms", "LMSDiscreteScheduler", UNSCALED,
      ANY_LIST | HAS_KARRAS | FILE_KARRAS | TAKES_SAMPLE, LINSPACE, 0, 0, 0.0001, 0.02, LINEAR },
    [DPM] = { "dpm++2m", "DPMSolverMultistepScheduler", BY_SIGMA,
      ANY_LIST | HAS_KARRAS | FILE_KARRAS | RESCALES | TAKES_SAMPLE,
      LINSPACE, 0, 0, 0.0001, 0.02, LINEAR },
    [UNIPC] = { "unipc", "UniPCMultistepScheduler", BY_SIGMA,
      ANY_LIST | HAS_KARRAS | FILE_KARRAS | RESCALES | TAKES_SAMPLE,
      LINSPACE, 0, 0, 0.0001, 0.02, LINEAR },
    [LCM] = { "lcm", "LCMScheduler", BY_TIMESTEP,
      ANY_LIST | RESCALES | CLIPS | TAKES_SAMPLE, LEADING, 1, 0, 0.00085, 0.012, SCALED_LINEAR },
    [DPM_SDE] = { "dpm++2m_sde", "", BY_SIGMA,
      ANY_LIST | HAS_KARRAS | FILE_KARRAS | RESCALES | TAKES_SAMPLE,
      LINSPACE, 0, 0, 0.0001, 0.02, LINEAR },
    [TCD] = { "tcd", "TCDScheduler", BY_TIMESTEP,
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

int sampler_form(int method) { return methods[method].form; }
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
    return method == DDIM || method == TCD;
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
    if (s->method == DPM && s->algorithm_type == SDE_DPMSOLVERPP) s->method = DPM_SDE;
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

Schedule schedule_resolved(const Schedule *s, int method)
{
    const Method *m = &methods[method];
    Schedule full = *s;
    if (full.beta_start < 0) full.beta_start = m->beta_start;
    if (full.beta_end < 0) full.beta_end = m->beta_end;
    if (full.beta_schedule < 0) full.beta_schedule = m->beta_schedule;
    if (full.timestep_spacing < 0) full.timestep_spacing = m->timestep_spacing;
    if (full.clip_sample < 0) full.clip_sample = m->clip_sample;
    if (full.set_alpha_to_one < 0) full.set_alpha_to_one = m->set_alpha_to_one;
    full.rescale_betas_zero_snr = full.rescale_betas_zero_snr && (m->knows & RESCALES);
    full.clip_sample = full.clip_sample && (m->knows & CLIPS);
    if (method == DPM && full.algorithm_type == SDE_DPMSOLVERPP) full.algorithm_type = DPMSOLVERPP;
    if (method == DPM_SDE) full.algorithm_type = SDE_DPMSOLVERPP;
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
        if (by_karras && (p->method == UNIPC || (by_sigma && s->beta_schedule != SQUAREDCOS)))
            t = rint(t);
        p->timesteps[i] = by_sigma ? (float)(int)t : (float)t;
        p->sigmas[i] = (float)sigma;
    }
    bool ends_above = s->final_sigmas_type == SIGMA_MIN && (by_sigma || p->method == EULER);
    p->sigmas[n] = o->sigmas ? (float)o->sigmas[n] : !ends_above ? 0
                 : p->method == UNIPC && formula ? p->sigmas[n - 1] : sigma_of(p, 0);
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
    const bool distilled = p->method == LCM || p->method == TCD;
    int most = s->num_train_timesteps;
    if (distilled) most = imin(most, s->original_inference_steps);
    int least = p->method == PNDM && !s->skip_prk_steps ? 4 : 1;
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
    if (p->method == DPM && s->algorithm_type >= DPMSOLVER)
        return refuse_word(m, "algorithm_type", s->algorithm_type, "dpmsolver++", e);
    if ((p->method == DDPM || p->method == DPM || p->method == DPM_SDE)
        && s->variance_type >= FIXED_LARGE_LOG)
        return refuse_word(m, "variance_type", s->variance_type,
                           "fixed_small, fixed_small_log or fixed_large", e);
    bool to_zero = p->method == UNIPC && s->final_sigmas_type == ZERO;
    if (to_zero && !s->lower_order_final && s->solver_order > 1)
        return fail(e, "%s: lower_order_final: found false, wanted true where the last sigma is 0",
                    m->name);
    if (to_zero && s->solver_type == SOLVER_BH1)
        return refuse_word(m, "solver_type", SOLVER_BH1, "bh2 where the last sigma is 0", e);
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
    bool simple_end = p->method == UNIPC ? s->lower_order_final
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
    Schedule s = schedule_resolved(schedule, p->method);
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

    if (p->method == PNDM) pndm_timesteps(p, &s, o->steps);
    else if (p->sigmas) sigma_timesteps(p, &s, o, o->steps);
    else if ((p->method == LCM || p->method == TCD) && !o->timesteps)
        lcm_timesteps(p, &s, o->steps);
    else for (; p->end < o->steps; p->end++)
        p->timesteps[p->end] = (float)(o->timesteps ? o->timesteps[p->end]
                                                    : spaced(&s, m->form, o->steps, p->end));
    if (m->knows & TWICE) twice(p);
    if (o->picture) p->first = (o->steps - (int)(o->steps * o->strength)) * calls_a_step(m);
    if (!consistent(p, &s, o->steps, e)) return sampler_plan_free(p), false;

    p->start = m->form == UNSCALED ? p->sigmas[0] : 1;
    if (m->form == UNSCALED && s.timestep_spacing == LEADING)
        p->start = sqrtf(p->start * p->start + 1);
    if (!size_mul(o->count, SAMPLER_ROOMS * sizeof(float), &p->memory)) p->memory = SIZE_MAX;
    return true;
}

void sampler_plan_free(SamplerPlan *p)
{
    free(p->timesteps);
    *p = (SamplerPlan){ 0 };
}
