/* test_sampler.c - the samplers against diffusers: tests/sampler/cases.json, of sampler.py. */
#include "../sampler.h"
#include "test.h"

static const char *const cases_path = "tests/sampler/cases.json";

/* ---- helpers ------------------------------------------------------------------------------- */

static Schedule schedule_of(const char *text)
{
    Error e = { 0 };
    Schedule s = { .method = -1 };
    Json *config = json_parse(text, strlen(text), "test", &e);
    CHECK(config && schedule_read(&s, config, "test", &e));
    if (e.code) printf("    %s\n", e.text);
    if (config) json_free(config);
    return s;
}

#define SD1 "\"beta_start\":0.00085,\"beta_end\":0.012,\"beta_schedule\":\"scaled_linear\"," \
            "\"set_alpha_to_one\":false,\"skip_prk_steps\":true,\"steps_offset\":1," \
            "\"clip_sample\":false"

/* The formula of tests/sampler.py. */
typedef struct { size_t n; int calls, fail_at; double t[64]; } Formula;

static bool formula(void *self, const float *x, double t, float *prediction, Error *e)
{
    Formula *f = self;
    float c = (float)(0.3 * f_cos(t / 200));
    if (f->calls < 64) f->t[f->calls] = t;
    if (++f->calls == f->fail_at) return fail(e, "formula: no more");
    for (size_t k = 0; k < f->n; k++)
        prediction[k] = x[k] * c + x[k] / (x[k] * x[k] + 1) * 0.1f;
    return true;
}

static double number(const Json *object, const char *key, double otherwise)
{
    Error e = { 0 };
    CHECK(json_float(object, key, -1e30, 1e30, &otherwise, "case", &e));
    return otherwise;
}

/* ---- diffusers ----------------------------------------------------------------------------- */

typedef struct { int runs; double worst; } Tally;
static Tally tally[16];

static void describe(const Json *c)
{
    for (const Json *j = c->first; j; j = j->next)
        if (j->type != JSON_ARRAY)
            printf(" %s=%s", j->key, j->type == JSON_BOOL ? "true" : j->text);
    printf("\n");
}

/* Timesteps exactly where they are whole or evenly spaced; to 1e-3 where they come from log sigma,
 * which in the reference is NumPy's float32 logarithm.  The initial sigma to two units of its last
 * place: torch's square root is off by one for every sixth number. */
static void compare_plan(const Json *c, const SamplerPlan *p)
{
    const Json *list = json_get(c, "seen");
    double start = number(c, "start", 0);
    bool wrong = fabs(start - (double)p->start) > 2.5e-7 * start;
    if (list) {
        int i = p->first;
        wrong |= list->count != p->end - p->first;
        for (const Json *t = list->first; t && i < p->end; t = t->next, i++) {
            float want = strtof(t->text, NULL), got = p->timesteps[i];
            const bool logs = p->schedule || json_get(c, "sigmas");
            wrong |= fabsf(got - want) > (logs && want != rintf(want) ? 1e-3f : 0);
        }
    }
    CHECK(!wrong);
    if (wrong) { printf("    timesteps or start (%.9g) of", (double)p->start); describe(c); }
}

/* The numbers of a list, in out; NULL: there is none. */
static const double *list_of(const Json *c, const char *name, double out[32])
{
    const Json *list = json_get(c, name);
    int i = 0;
    for (const Json *j = list ? list->first : NULL; j; j = j->next)
        out[i++] = strtod(j->text, NULL);
    return list ? out : NULL;
}

static void run_case(const Json *c, const Schedule *s)
{
    static float x[256], picture[256], mask[256];
    static double timesteps[32], sigmas[32];
    Error e = { 0 };
    Rng rng;
    size_t n = (size_t)number(c, "n", 0);
    for (size_t k = 0; k < n; k++) {
        picture[k] = (float)sin((double)((float)k * 0.7f));
        mask[k] = k % 3 != 0;
    }
    const Json *method = json_get(c, "method");
    SamplerOptions o = {
        .method = sampler_method(method->text), .steps = (int)number(c, "steps", 0),
        .schedule = json_get(c, "karras") ? sampler_schedule("karras")
                  : json_get(c, "schedule") ? sampler_schedule(json_get(c, "schedule")->text) : -1,
        .timesteps = list_of(c, "timesteps", timesteps), .sigmas = list_of(c, "sigmas", sigmas),
        .eta = number(c, "eta", 0), .strength = number(c, "strength", 0),
        .picture = json_get(c, "strength") ? picture : NULL,
        .mask = json_get(c, "mask") ? mask : NULL, .rng = &rng, .count = n,
    };
    SamplerPlan p = { 0 };
    Formula f = { .n = n };
    rng_seed(&rng, 7);
    randn(&rng, x, n);
    bool ran = sampler_plan(&p, s, &o, &e) && sample(s, &o, x, formula, &f, &e);
    CHECK(ran);
    if (!ran) { printf("    %s:", e.text); describe(c); sampler_plan_free(&p); return; }

    compare_plan(c, &p);
    CHECK(f.calls == p.end - p.first);
    for (int i = 0; i < f.calls; i++) CHECK(f.t[i] == (double)p.timesteps[p.first + i]);
    double largest = number(c, "largest", 0), worst = 0;
    int i = 0;
    for (const Json *j = json_get(c, "want")->first; j; j = j->next, i++) {
        float got = x[(size_t)((double)(n - 1) / 11 * i)], want = strtof(j->text, NULL);
        double gap = fabs((double)got - (double)want) / largest;
        worst = gap <= worst ? worst : gap;
    }
    CHECK(i == 12 && worst <= 2e-5);
    if (!(worst <= 2e-5)) { printf("    off by %.2e:", worst); describe(c); }
    Tally *t = &tally[o.method];
    t->runs++;
    if (worst > t->worst) t->worst = worst;
    sampler_plan_free(&p);
}

TEST(sampler_equals_diffusers)
{
    Error e = { 0 };
    Json *all = json_read(cases_path, 1 << 20, &e);
    CHECK(all);
    if (!all) { printf("    %s\n", e.text); return; }
    int count = 0;
    for (const Json *c = json_get(all, "cases")->first; c; c = c->next, count++) {
        Schedule s;
        const Json *config = json_get(json_get(all, "configs"), json_get(c, "config")->text);
        bool read = config && schedule_read(&s, config, "case", &e);
        CHECK(read);
        if (read) run_case(c, &s);
        else { printf("    %s:", e.text); describe(c); e.code = 0; }
    }
    CHECK(count == 997);
    for (int m = 0; m < 12 && getenv("VERBOSE"); m++)
        printf("%8s: %3d runs, off by at most %.1e\n", sampler_name(m), tally[m].runs,
               tally[m].worst);
    json_free(all);
}

/* ---- without a reference ------------------------------------------------------------------- */

/* A run of method over the formula; false, with the message in e, as sample() says. */
static bool run(const Schedule *s, SamplerOptions o, float *x, Formula *f, Error *e)
{
    Rng rng;
    rng_seed(&rng, 3);
    randn(&rng, x, f->n);
    o.rng = &rng;
    o.count = f->n;
    return sample(s, &o, x, formula, f, e);
}

#define FAILS(call, message)                                                                \
    do { Error e_ = { 0 }; CHECK(!(call)); CHECK_STR(e_.text, message); } while (0)

TEST(every_number_of_steps_runs)
{
    static float x[5];
    for (int method = 0; method < 10; method++)
        for (int spacing = 0; spacing < 3; spacing++)
            for (int steps = 1; steps <= 400; steps += steps < 60 ? 1 : 34) {
                Schedule s = schedule_of("{" SD1 ",\"original_inference_steps\":500}");
                SamplerOptions o = { .method = method, .schedule = -1, .steps = steps };
                Formula f = { .n = 5 };
                Error e = { 0 };
                s.timestep_spacing = spacing;
                CHECK(run(&s, o, x, &f, &e));
                int want = steps;
                if (method == sampler_method("pndm") && steps > 1) want = steps + 1;
                if (method == sampler_method("heun")) want = 2 * steps - 1;
                CHECK(f.calls == want);
                if (e.code || f.calls != want)
                    printf("    %s, %d steps: %d calls %s\n", sampler_name(method), steps, f.calls,
                           e.text);
            }
}

TEST(names)
{
    CHECK(sampler_method("plms") == sampler_method("pndm"));
    CHECK(sampler_method("DDIM") == -1 && sampler_method("") == -1);
    CHECK(sampler_schedule("karras") == 1 && sampler_schedule("Karras") == -1);
    CHECK(sampler_schedule("sgm_uniform") == sampler_schedule("trailing"));
    char all[200] = "";
    for (int m = 0; m < 12; m++) {
        CHECK(sampler_method(sampler_name(m)) == m);
        size_t used = strlen(all);
        snprintf(all + used, sizeof all - used, "%s%s", m ? ", " : "", sampler_name(m));
        CHECK(sampler_has_karras(m) == ((m >= 3 && m <= 8) || m == 10));
        CHECK(sampler_has_eta(m) == (m == 0 || m == 11));
    }
    CHECK_STR(sampler_methods(), all);
    CHECK_STR(sampler_schedules(),
              "discrete, karras, exponential, linspace, leading, trailing, sgm_uniform");
}

/* Lists that a method cannot follow, and a file that says sde. */
TEST(lists)
{
    Schedule s = schedule_of("{" SD1 "}");
    const double up[] = { 10, 20, 5 }, half[] = { 900.5, 3, 1 }, far[] = { 1000, 3, 1 },
                 good[] = { 900, 30, 1 }, sigmas[] = { 14, 3, 1, 0 };
    SamplerPlan p;
    SamplerOptions o = { .method = sampler_method("euler"), .schedule = -1, .steps = 3 };
    o.timesteps = up;
    FAILS(sampler_plan(&p, &s, &o, &e_),
          "euler: timesteps: found 20, wanted whole numbers that fall, in 0..999");
    o.timesteps = half;
    FAILS(sampler_plan(&p, &s, &o, &e_),
          "euler: timesteps: found 900.5, wanted whole numbers that fall, in 0..999");
    o.timesteps = far;
    FAILS(sampler_plan(&p, &s, &o, &e_),
          "euler: timesteps: found 1000, wanted whole numbers that fall, in 0..999");
    o.timesteps = good;
    o.method = sampler_method("ddim");
    FAILS(sampler_plan(&p, &s, &o, &e_),
          "ddim: timesteps: found some, wanted a method that goes by them");
    o.method = sampler_method("euler");
    o.schedule = sampler_schedule("karras");
    FAILS(sampler_plan(&p, &s, &o, &e_),
          "euler: schedule: found karras, wanted discrete beside timesteps");
    o.schedule = -1;
    o.sigmas = sigmas;
    FAILS(sampler_plan(&p, &s, &o, &e_), "euler: sigmas: found timesteps too, wanted one of them");
    o.timesteps = NULL;
    o.method = sampler_method("lcm");
    FAILS(sampler_plan(&p, &s, &o, &e_),
          "lcm: sigmas: found some, wanted a method that goes by them");
    Schedule sde = schedule_of("{" SD1 ",\"_class_name\":\"DPMSolverMultistepScheduler\","
                               "\"algorithm_type\":\"sde-dpmsolver++\"}");
    CHECK(sde.method == sampler_method("dpm++2m_sde"));
}

TEST(the_file_names_the_method)
{
    static const char *const classes[] = {
        "DDIMScheduler", "DDPMScheduler", "PNDMScheduler", "EulerDiscreteScheduler",
        "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler", "LMSDiscreteScheduler",
        "DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "LCMScheduler",
    };
    for (int m = 0; m < 10; m++) {
        char text[300];
        snprintf(text, sizeof text, "{\"_class_name\":\"%s\"," SD1 "}", classes[m]);
        Schedule s = schedule_of(text);
        CHECK(s.method == m);
        CHECK_STR(s.class_name, classes[m]);
    }
    static float x[4];
    Formula f = { .n = 4 };
    SamplerOptions o = { .method = -1, .schedule = -1, .steps = 4 };
    Schedule other = schedule_of("{\"_class_name\":\"FlowMatchEulerDiscreteScheduler\"," SD1 "}");
    Schedule none = schedule_of("{" SD1 "}");
    FAILS(run(&other, o, x, &f, &e_), "scheduler: found FlowMatchEulerDiscreteScheduler, wanted "
          "one of ddim, ddpm, pndm, euler, euler_a, heun, lms, dpm++2m, unipc, lcm, "
          "dpm++2m_sde, tcd");
    FAILS(run(&none, o, x, &f, &e_), "scheduler: found no _class_name, wanted one of "
          "ddim, ddpm, pndm, euler, euler_a, heun, lms, dpm++2m, unipc, lcm, dpm++2m_sde, tcd");
    o.method = 0;
    CHECK(run(&other, o, x, &f, &(Error){ 0 }));
}

/* use_karras_sigmas of the file counts where the class knows it, and the option overrules it. */
TEST(karras_by_file_and_by_option)
{
    Schedule s = schedule_of("{" SD1 ",\"use_karras_sigmas\":true}");
    for (int m = 0; m < 12; m++)
        for (int asked = -1; asked < 2; asked++) {
            SamplerOptions o = { .method = m, .schedule = asked, .steps = 7 };
            SamplerPlan p;
            Error e = { 0 };
            bool can = sampler_has_karras(m), ok = sampler_plan(&p, &s, &o, &e);
            CHECK(ok == (asked != 1 || can));
            if (!ok) continue;
            CHECK(p.schedule == (asked < 0 ? can && m != sampler_method("euler_a") : asked == 1));
            sampler_plan_free(&p);
        }
    SamplerOptions o = { .method = 0, .schedule = 1, .steps = 7 };
    FAILS(sampler_plan(&(SamplerPlan){ 0 }, &s, &o, &e_),
          "ddim: schedule: found karras, wanted discrete: it goes by timestep");
}

TEST(options_out_of_range)
{
    static float x[4], picture[4];
    Schedule s = schedule_of("{" SD1 "}");
    Formula f = { .n = 4 };
    SamplerOptions o = { .method = 0, .schedule = -1, .steps = 0 };
    FAILS(run(&s, o, x, &f, &e_), "ddim: steps: found 0, wanted 1..1000");
    o.steps = 1001;
    FAILS(run(&s, o, x, &f, &e_), "ddim: steps: found 1001, wanted 1..1000");
    o.steps = 1000;
    FAILS(run(&s, o, x, &f, &e_),
          "ddim: 1000 steps: found timestep 1000, wanted 0..999: take fewer steps");
    o = (SamplerOptions){ .method = sampler_method("lcm"), .schedule = -1, .steps = 51 };
    FAILS(run(&s, o, x, &f, &e_), "lcm: steps: found 51, wanted 1..50");
    o = (SamplerOptions){ .method = 0, .schedule = -1, .steps = 10, .eta = 1.5 };
    FAILS(run(&s, o, x, &f, &e_), "ddim: eta: found 1.5, wanted 0..1");
    o.eta = NAN;
    FAILS(run(&s, o, x, &f, &e_), "ddim: eta: found nan, wanted 0..1");
    o.eta = 0.5; o.method = 3;
    FAILS(run(&s, o, x, &f, &e_), "euler: eta: found 0.5, wanted 0");
    o.eta = 0; o.picture = picture; o.strength = 0.05;
    FAILS(run(&s, o, x, &f, &e_),
          "euler: strength: found 0.05, which runs none of 10 steps, wanted 0.1..1");
    o.strength = 1.01;
    FAILS(run(&s, o, x, &f, &e_), "euler: strength: found 1.01, wanted 0..1");
    o.picture = NULL; o.mask = picture;
    FAILS(run(&s, o, x, &f, &e_), "euler: mask: found no picture, wanted one");
    s.skip_prk_steps = 0;
    o = (SamplerOptions){ .method = 2, .schedule = -1, .steps = 3 };
    FAILS(run(&s, o, x, &f, &e_), "pndm: steps: found 3, wanted 4..1000");
    s.prediction_type = SAMPLE; o.steps = 10;
    FAILS(run(&s, o, x, &f, &e_),
          "pndm: prediction_type: found sample, wanted epsilon or v_prediction");
    CHECK(f.calls == 0);
}

TEST(files_that_lead_elsewhere)
{
    static const char *const bad[][2] = {
        { "[]", "f: found a list, wanted an object" },
        { "{\"beta_schedule\":\"sigmoid\"}", "f: beta_schedule: found 'sigmoid', wanted one of "
          "linear|scaled_linear|squaredcos_cap_v2" },
        { "{\"beta_start\":0.02,\"beta_end\":0.01}",
          "f: beta_end: found 0.01, wanted at least beta_start 0.02" },
        { "{\"trained_betas\":[0.1,0.2]}",
          "f: trained_betas: found a list, wanted none: no method here can follow it" },
        { "{\"thresholding\":true}",
          "f: thresholding: found true, wanted none: no method here can follow it" },
        { "{\"use_beta_sigmas\":true}",
          "f: use_beta_sigmas: found true, wanted none: no method here can follow it" },
        { "{\"sigma_max\":80}",
          "f: sigma_max: found 80, wanted none: no method here can follow it" },
        { "{\"predict_x0\":false}",
          "f: predict_x0: found false, wanted true: no method here can follow it" },
        { "{\"timestep_type\":\"continuous\"}",
          "f: timestep_type: found continuous, wanted discrete: no method here can follow it" },
        { "{\"disable_corrector\":[0]}",
          "f: disable_corrector: found a list, wanted none: no method here can follow it" },
    };
    static const char *const refused[] = {
        "{\"num_train_timesteps\":1}", "{\"num_train_timesteps\":1e9}",
        "{\"num_train_timesteps\":\"1000\"}", "{\"num_train_timesteps\":999.5}",
        "{\"beta_start\":0}", "{\"beta_start\":-0.1}", "{\"beta_end\":1.5}",
        "{\"steps_offset\":-1}", "{\"solver_order\":4}",
        "{\"prediction_type\":\"flow_prediction\"}", "{\"timestep_spacing\":\"karras\"}",
        "{\"clip_sample\":\"no\"}", "{\"_class_name\":7}", "{\"prediction_type\":\"\"}",
        "{\"prediction_type\":\"epsilon|v_prediction\"}", "{\"final_sigmas_type\":\"sigma\"}" };
    static const char *const fine[] = { "{}", "{\"beta_start\":null,\"trained_betas\":null,"
        "\"thresholding\":false,\"use_flow_sigmas\":false,\"disable_corrector\":[],"
        "\"solver_p\":null,"
        "\"predict_x0\":true,\"timestep_type\":\"discrete\",\"interpolation_type\":\"linear\","
        "\"_diffusers_version\":\"0.6.0\",\"something\":{\"new\":[1,2]}}" };
    for (size_t i = 0; i < countof(bad) + countof(refused) + countof(fine); i++) {
        Error e = { 0 };
        Schedule s;
        size_t of_refused = i - countof(bad), of_fine = of_refused - countof(refused);
        const char *text = i < countof(bad) ? bad[i][0]
                         : of_refused < countof(refused) ? refused[of_refused] : fine[of_fine];
        Json *j = json_parse(text, strlen(text), "f", &e);
        CHECK(j);
        if (!j) continue;
        bool read = schedule_read(&s, j, "f", &e);
        CHECK(read == (i >= countof(bad) + countof(refused)));
        if (i < countof(bad)) CHECK_STR(e.text, bad[i][1]);
        json_free(j);
    }
}

TEST(settings_of_one_method_alone)
{
    static float x[4];
    Formula f = { .n = 4 };
    int dpm = sampler_method("dpm++2m"), unipc = sampler_method("unipc");
    Schedule s = schedule_of("{" SD1 ",\"algorithm_type\":\"sde-dpmsolver\","
                             "\"solver_type\":\"bh1\",\"variance_type\":\"learned\"}");
    SamplerOptions o = { .method = dpm, .schedule = -1, .steps = 4 };
    FAILS(run(&s, o, x, &f, &e_),
          "dpm++2m: algorithm_type: found sde-dpmsolver, wanted dpmsolver++");
    o.method = unipc;
    FAILS(run(&s, o, x, &f, &e_),
          "unipc: solver_type: found bh1, wanted bh2 where the last sigma is 0");
    s.solver_type = -1; s.lower_order_final = 0;
    FAILS(run(&s, o, x, &f, &e_),
          "unipc: lower_order_final: found false, wanted true where the last sigma is 0");
    s.final_sigmas_type = 1; s.solver_order = 3; o.schedule = 1; o.steps = 20;
    FAILS(run(&s, o, x, &f, &e_),
          "unipc: solver_order: found 3, wanted 1..2 where the last sigma comes twice");
    s.algorithm_type = 0; s.lower_order_final = 1; s.variance_type = 0; o.method = dpm;
    FAILS(run(&s, o, x, &f, &e_),
          "dpm++2m: solver_order: found 3, wanted 1..2 where the last sigma comes twice");
    o.steps = 14;
    CHECK(run(&s, o, x, &f, &(Error){ 0 }));
    s.variance_type = 4; o.method = 1; o.schedule = -1;
    FAILS(run(&s, o, x, &f, &e_), "ddpm: variance_type: found learned, wanted fixed_small, "
          "fixed_small_log or fixed_large");
    o.method = 0;
    CHECK(run(&s, o, x, &f, &(Error){ 0 }));
}

/* A schedule that ends without signal cannot give it back from the noise. */
TEST(zero_terminal_snr_needs_v)
{
    static float x[4];
    Formula f = { .n = 4 };
    Schedule s = schedule_of("{" SD1 ",\"rescale_betas_zero_snr\":true,"
                             "\"timestep_spacing\":\"trailing\"}");
    SamplerOptions o = { .method = 0, .schedule = -1, .steps = 4 };
    FAILS(run(&s, o, x, &f, &e_), "ddim: alphas_cumprod at timestep 999: found 0, wanted between "
          "0 and 1 (rescale_betas_zero_snr with epsilon)");
    s.prediction_type = V_PREDICTION;
    CHECK(run(&s, o, x, &f, &(Error){ 0 }));
    Schedule steep = schedule_of("{\"beta_start\":0.5,\"beta_end\":0.9}");
    Error e = { 0 };
    CHECK(!run(&steep, o, x, &f, &e) && strstr(e.text, "alphas_cumprod at timestep"));
}

TEST(what_the_pipeline_overrides)
{
    Schedule s = schedule_of("{\"steps_offset\":0,\"clip_sample\":true,\"skip_prk_steps\":false}");
    Schedule t = s;
    schedule_as_sd(&s, false);
    CHECK(s.steps_offset == 1 && s.clip_sample == 0 && s.skip_prk_steps == 0);
    schedule_as_sd(&t, true);
    CHECK(t.steps_offset == 1 && t.clip_sample == 1 && t.skip_prk_steps == 1);
}

/* ---- failures, progress -------------------------------------------------------------------- */

static bool broken(void *self, const float *x, double t, float *prediction, Error *e)
{
    Formula *f = self;
    formula(self, x, t, prediction, e);
    if (f->calls == 3) prediction[f->n - 1] = NAN;
    return true;
}

TEST(what_is_not_finite_is_told)
{
    static float x[20];
    static const int calls[] = { 20, 20, 21, 20, 20, 39, 20, 20, 20, 20 };
    Schedule s = schedule_of("{" SD1 "}");
    for (int m = 0; m < 10; m++) {
        Formula f = { .n = 20 };
        Rng rng;
        Error e = { 0 };
        char text[80];
        SamplerOptions o = { .method = m, .schedule = -1, .steps = 20, .rng = &rng, .count = 20 };
        snprintf(text, sizeof text, "%s: step 3 of %d: not finite", sampler_name(m), calls[m]);
        rng_seed(&rng, 1);
        randn(&rng, x, 20);
        CHECK(!sample(&s, &o, x, broken, &f, &e));
        CHECK_STR(e.text, text);
        CHECK(f.calls == 3);
    }
}

TEST(a_model_that_fails_stops_the_run)
{
    static float x[20];
    Schedule s = schedule_of("{" SD1 "}");
    for (int m = 0; m < 12; m++) {
        Formula f = { .n = 20, .fail_at = 5 };
        FAILS(run(&s, (SamplerOptions){ .method = m, .schedule = -1, .steps = 20 }, x, &f, &e_),
              "formula: no more");
        CHECK(f.calls == 5);
    }
}

typedef struct { int seen, stop, calls; float last[20], x0[20]; } Watch;

static bool watch(void *self, int call, int calls, const float *x, const float *x0)
{
    Watch *w = self;
    CHECK(call == ++w->seen);
    w->calls = calls;
    memcpy(w->last, x, sizeof w->last);
    memcpy(w->x0, x0, sizeof w->x0);
    return call != w->stop;
}

TEST(each_call_is_shown_and_may_stop)
{
    static float x[20];
    Schedule s = schedule_of("{" SD1 "}");
    for (int m = 0; m < 12; m++) {
        Formula f = { .n = 20 };
        Watch w = { .stop = 0 };
        SamplerOptions o = { .method = m, .schedule = -1, .steps = 9, .each = watch, .self = &w };
        CHECK(run(&s, o, x, &f, &(Error){ 0 }));
        CHECK(w.seen == f.calls && w.calls == f.calls);
        CHECK(!memcmp(w.last, x, sizeof w.last));
        /* Where one slope leads to a last sigma of 0, the run ends in the latents expected last. */
        if (m >= 3 && m != sampler_method("lms") && m != sampler_method("tcd"))
            CLOSE(x, w.x0, 20, 2e-7);
        w = (Watch){ .stop = 4 };
        char text[80];
        snprintf(text, sizeof text, "%s: step 4 of %d: stopped", sampler_name(m), f.calls);
        FAILS(run(&s, o, x, &f, &e_), text);
        CHECK(w.seen == 4);
    }
}

/* The same clean latents from noise, from velocity and as they are, whatever the scale of x. */
TEST(predicted_clean_latents)
{
    const float clean[] = { 0.25f, -2, 1 }, noise[] = { 1, 0.5f, -3 };
    for (int form = 0; form < 2; form++) {
        float a = form ? 1 : 0.6f, s = form ? 7.5f : 0.8f, x[3], v[3], got[3];
        for (int k = 0; k < 3; k++) {
            x[k] = a * clean[k] + s * noise[k];
            v[k] = (a * noise[k] - s * clean[k]) / sqrtf(a * a + s * s);
        }
        predicted_clean(EPSILON, a, s, x, noise, got, 3);
        CLOSE(got, clean, 3, 1e-6);
        predicted_clean(V_PREDICTION, a, s, x, v, got, 3);
        CLOSE(got, clean, 3, 2e-6);
        predicted_clean(SAMPLE, a, s, x, clean, got, 3);
        CLOSE(got, clean, 3, 0);
    }
}

/* Kept where the mask is 0: those latents come out as they went in. */
TEST(a_mask_keeps_the_picture)
{
    static float x[20], picture[20], mask[20];
    for (int k = 0; k < 20; k++) { picture[k] = 0.1f * (float)k; mask[k] = k % 2; }
    Schedule s = schedule_of("{" SD1 "}");
    for (int m = 0; m < 12; m++)
        for (int full = 0; full < 2; full++) {
            Formula f = { .n = 20 };
            SamplerOptions o = { .method = m, .schedule = -1, .steps = 8, .picture = picture,
                                 .mask = mask, .strength = full ? 1 : 0.5 };
            CHECK(run(&s, o, x, &f, &(Error){ 0 }));
            for (int k = 0; k < 20; k++) CHECK((x[k] == picture[k]) == (k % 2 == 0));
        }
}

/* One number for all bits of many runs: equal for every compiler and machine. */
TEST(the_same_bits_everywhere)
{
    static float x[37];
    Schedule s = schedule_of("{" SD1 "}");
    uint64_t sum = 0xcbf29ce484222325;
    for (int m = 0; m < 12; m++)
        for (int karras = 0; karras <= sampler_has_karras(m); karras++) {
            Formula f = { .n = 37 };
            CHECK(run(&s, (SamplerOptions){ .method = m, .schedule = karras, .steps = 12,
                      .eta = m == 0 ? 0.5 : 0 }, x, &f, &(Error){ 0 }));
            for (int k = 0; k < 37; k++) {
                uint32_t bits;
                memcpy(&bits, &x[k], 4);
                sum = (sum ^ bits) * 0x100000001b3;
            }
        }
    CHECK(sum == 0xbad654c192e6b39b);
    if (sum != 0xbad654c192e6b39b) printf("    %#llx\n", (unsigned long long)sum);
}
