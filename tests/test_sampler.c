/* test_sampler.c - the samplers against diffusers: tests/sampler/cases.json, made by tests/sampler.py. */
#include "../sampler.h"
#include "test.h"

static const char *const cases_path = "tests/sampler/cases.json";

/* ---- helpers --------------------------------------------------------------------------------------- */

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
            "\"set_alpha_to_one\":false,\"skip_prk_steps\":true,\"steps_offset\":1,\"clip_sample\":false"

/* The formula of tests/sampler.py. */
typedef struct { size_t n; int calls, fail_at; double t[64]; } Formula;

static bool formula(void *self, const float *x, double t, float *prediction, Error *e)
{
    Formula *f = self;
    float c = (float)(0.3 * cos(t / 200));
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

/* ---- diffusers ------------------------------------------------------------------------------------- */

typedef struct { int runs; double worst; } Tally;
static Tally tally[16];

static void describe(const Json *c)
{
    for (const Json *j = c->first; j; j = j->next)
        if (j->type != JSON_ARRAY)
            printf(" %s=%s", j->key, j->type == JSON_BOOL ? "true" : j->text);
    printf("\n");
}

/* Timesteps exactly where they are whole or evenly spaced; to 1e-3 where they come from log sigma, which
 * in the reference is NumPy's float32 logarithm. */
static void compare_plan(const Json *c, const SamplerPlan *p)
{
    const Json *list = json_get(c, "timesteps");
    bool wrong = (float)number(c, "start", 0) != p->start;
    if (list) {
        int i = p->first;
        wrong |= list->count != p->end - p->first;
        for (const Json *t = list->first; t && i < p->end; t = t->next, i++) {
            float want = strtof(t->text, NULL), got = p->timesteps[i];
            wrong |= fabsf(got - want) > (p->karras && want != rintf(want) ? 1e-3f : 0);
        }
    }
    CHECK(!wrong);
    if (wrong) { printf("    timesteps or start (%.9g) of", (double)p->start); describe(c); }
}

static void run_case(const Json *c, const Schedule *s)
{
    static float x[256], picture[256], mask[256];
    Error e = { 0 };
    Rng rng;
    size_t n = (size_t)number(c, "n", 0);
    for (size_t k = 0; k < n; k++) {
        picture[k] = (float)sin((double)((float)k * 0.7f));
        mask[k] = k % 3 != 0;
    }
    const Json *method = json_get(c, "method");
    SamplerOptions o = { .method = sampler_method(method->text), .steps = (int)number(c, "steps", 0),
        .schedule = json_get(c, "karras") ? sampler_schedule("karras") : -1, .eta = number(c, "eta", 0),
        .picture = json_get(c, "strength") ? picture : NULL, .strength = number(c, "strength", 0),
        .mask = json_get(c, "mask") ? mask : NULL, .rng = &rng, .count = n };
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
        double gap = fabs(strtof(j->text, NULL) - (double)x[(size_t)((double)(n - 1) / 11 * i)]) / largest;
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
    CHECK(count == 800);
    for (int m = 0; m < 10 && getenv("VERBOSE"); m++)
        printf("%8s: %3d runs, off by at most %.1e\n", sampler_name(m), tally[m].runs, tally[m].worst);
    json_free(all);
}
