/* test_numbers.c - the functions of equal bits, and torch's noise. */
#include "../tensor.h"
#include "test.h"
#include <float.h>

/* ---- functions ----------------------------------------------------------------------------- */

/* Distance in units of the last place of want. */
static double ulps(double got, double want)
{
    if (got == want) return 0;
    double unit = fmax(nextafter(fabs(want), INFINITY) - fabs(want), 4.9406564584124654e-324);
    return fabs(got - want) / unit;
}

/* Arguments and values to 1400 bits, rounded: mpmath. */
TEST(functions_are_right_to_the_last_place)
{
    static const double exp_of[][2] = {
        { 0x1p+0, 0x1.5bf0a8b145769p+1 },
        { -0x1p+0, 0x1.78b56362cef38p-2 },
        { 0x1.999999999999ap-4, 0x1.1aec7b35a00d4p+0 },
        { 0x1.12e0be826d695p-30, 0x1.000000044b83p+0 },
        { 0x1.48p+4, 0x1.7d6c4f0bcdd5cp+29 },
        { -0x1.48p+4, 0x1.57a3afeed00abp-30 },
        { 0x1.2cb3333333333p+8, 0x1.c3714f17ae743p+433 },
        { 0x1.62e3d70a3d70ap+9, 0x1.fe9ce5c4c52b4p+1023 },
        { -0x1.6226666666666p+9, 0x1.19e98b83de7a3p-1022 },
        { -0x1.748cccccccccdp+9, 0x0.0000000000001p-1022 },
        { 0x1.62e42fefa39eep-2, 0x1.6a09e667f3bccp+0 },
    }, log_of[][2] = {
        { 0x1p+1, 0x1.62e42fefa39efp-1 },
        { 0x1.8p+1, 0x1.193ea7aad030bp+0 },
        { 0x1.4p+3, 0x1.26bb1bbb55516p+1 },
        { 0x1.999999999999ap-4, -0x1.26bb1bbb55515p+1 },
        { 0x1.ffffffff2419p-1, -0x1.b7ce00005e728p-34 },
        { 0x1.000000006df38p+0, 0x1.b7cdffffa18d8p-34 },
        { 0x1.56e1fc2f8f359p-997, -0x1.5963447f87fb5p+9 },
        { 0x1.e42d130773b76p+1023, 0x1.62dd08fdc6f88p+9 },
        { 0x0.0000000000001p-1022, -0x1.74385446d71c3p+9 },
        { 0x1.6a09e65dc27dfp-1, -0x1.62e4300c77ae8p-2 },
        { 0x1.6a09e667f3bcdp+0, 0x1.62e42fefa39fp-2 },
    }, sin_of[][2] = {
        { 0x1p-1, 0x1.eaee8744b05fp-2 },
        { 0x1p+0, 0x1.aed548f090ceep-1 },
        { 0x1p+1, 0x1.d18f6ead1b446p-1 },
        { 0x1.8p+1, 0x1.210386db6d55bp-3 },
        { -0x1p+2, 0x1.837b9dddc1eaep-1 },
        { 0x1.9p+6, -0x1.03425b78c4db8p-1 },
        { 0x1.e848p+19, -0x1.6664b2568d867p-2 },
        { 0x1.921fb54442d18p+1, 0x1.1a62633145c07p-53 },
        { 0x1.0f0cf064dd592p+73, -0x1.b453ab76bf397p-1 },
        { 0x1.e42d130773b76p+1023, -0x1.30c567d277075p-1 },
        { 0x1.6ac5b262ca1ffp+849, 0x1p+0 },
    }, cos_of[][2] = {
        { 0x1p-1, 0x1.c1528065b7d5p-1 },
        { 0x1p+0, 0x1.14a280fb5068cp-1 },
        { 0x1p+1, -0x1.aa22657537205p-2 },
        { 0x1.8p+1, -0x1.fae04be85e5d2p-1 },
        { -0x1p+2, -0x1.4eaa606db24c1p-1 },
        { 0x1.9p+6, 0x1.b981dbf665fdfp-1 },
        { 0x1.e848p+19, 0x1.df9df9906d32cp-1 },
        { 0x1.921fb54442d18p+0, 0x1.1a62633145c07p-54 },
        { 0x1.0f0cf064dd592p+73, 0x1.0be2cef01c8f4p-1 },
        { 0x1.e42d130773b76p+1023, 0x1.9b6913f41bde3p-1 },
        { 0x1.6ac5b262ca1ffp+849, -0x1.14ae72e6ba22fp-61 },
    }, pow_of[][3] = {
        { 0x1p+1, 0x1p-1, 0x1.6a09e667f3bcdp+0 },
        { 0x1.4p+3, -0x1.8p+1, 0x1.0624dd2f1a9fcp-10 },
        { 0x1.d3ab302f72b45p+3, 0x1.2492492492492p-3, 0x1.778646db6c04ep+0 },
        { 0x1.dde15ca6ca03cp-6, 0x1.2492492492492p-3, 0x1.350212179eb05p-1 },
        { 0x1.775f6fd21ff2ep+0, 0x1.cp+2, 0x1.d259018a27857p+3 },
        { 0x1.ff7ced916872bp-1, 0x1.f4p+9, 0x1.788526411ed72p-2 },
        { 0x1.000001ad7f29bp+0, 0x1.dcd65p+29, 0x1.349445c228792p+144 },
        { 0x1.8p+1, -0x1.2c4p+9, 0x1.2c3fe31a13ba2p-952 },
        { 0x0.012688b70e62bp-1022, 0x1.3333333333333p-2, 0x1.0aff95cc5b0b3p-309 },
        { 0x1.ep+2, 0x1.2cp+8, 0x1.0c33d4b2580bcp+872 },
    };
    for (size_t i = 0; i < countof(exp_of); i++)
        CHECK(ulps(f_exp(exp_of[i][0]), exp_of[i][1]) <= 1);
    for (size_t i = 0; i < countof(log_of); i++)
        CHECK(ulps(f_log(log_of[i][0]), log_of[i][1]) <= 1);
    for (size_t i = 0; i < countof(sin_of); i++)
        CHECK(ulps(f_sin(sin_of[i][0]), sin_of[i][1]) <= 1);
    for (size_t i = 0; i < countof(cos_of); i++)
        CHECK(ulps(f_cos(cos_of[i][0]), cos_of[i][1]) <= 1);
    for (size_t i = 0; i < countof(pow_of); i++)
        CHECK(ulps(f_pow(pow_of[i][0], pow_of[i][1]), pow_of[i][2]) <= 1);
}

static double scattered(uint32_t *state, double low, double high)
{
    *state = *state * 1664525u + 1013904223u;
    return low + (high - low) * (*state >> 8) / 16777216.0;
}

/* libm is no judge of the last bit, but never far. */
TEST(functions_agree_with_libm)
{
    uint32_t state = 1;
    for (int i = 0; i < 20000; i++) {
        double x = scattered(&state, -700, 700);
        double small = scattered(&state, -1, 1) * f_pow(10, -i % 300);
        double base = f_exp(scattered(&state, -20, 20)), power = scattered(&state, -30, 30);
        CHECK(ulps(f_exp(x), exp(x)) <= 2 && ulps(f_exp(small), exp(small)) <= 2);
        CHECK(ulps(f_log(base), log(base)) <= 2 && ulps(f_log(1 + small), log(1 + small)) <= 2);
        CHECK(ulps(f_sin(x), sin(x)) <= 2 && ulps(f_cos(x), cos(x)) <= 2);
        CHECK(ulps(f_sin(small), sin(small)) <= 2 && ulps(f_cos(small), cos(small)) <= 2);
        CHECK(ulps(f_sin(x * 1e200), sin(x * 1e200)) <= 2);
        CHECK(ulps(f_cos(1 / small), cos(1 / small)) <= 2);
        CHECK(ulps(f_pow(base, power), pow(base, power)) <= 2);
    }
}

static bool same(double a, double b)                       /* NaN is NaN; zeros have signs */
{
    return a != a ? b != b : a == b && !signbit(a) == !signbit(b);
}

TEST(functions_at_their_ends)
{
    CHECK(same(f_exp(0), 1) && same(f_exp(-0.0), 1) && same(f_exp(INFINITY), INFINITY));
    CHECK(same(f_exp(-INFINITY), 0) && same(f_exp(NAN), NAN) && same(f_exp(1e300), INFINITY));
    CHECK(same(f_exp(709.79), INFINITY) && same(f_exp(-745.14), 0) && same(f_exp(-1e300), 0));
    CHECK(same(f_log(0), -INFINITY) && same(f_log(-0.0), -INFINITY) && same(f_log(1), 0));
    CHECK(same(f_log(-1), NAN) && same(f_log(INFINITY), INFINITY) && same(f_log(-INFINITY), NAN));
    CHECK(same(f_log(NAN), NAN));
    CHECK(same(f_sin(0), 0) && same(f_sin(-0.0), -0.0) && same(f_sin(INFINITY), NAN));
    CHECK(same(f_sin(-INFINITY), NAN) && same(f_sin(NAN), NAN) && same(f_sin(5e-324), 5e-324));
    CHECK(same(f_cos(0), 1) && same(f_cos(-0.0), 1) && same(f_cos(INFINITY), NAN));
    CHECK(same(f_cos(NAN), NAN) && fabs(f_sin(DBL_MAX)) <= 1 && fabs(f_cos(-DBL_MAX)) <= 1);
}

/* C11 says what pow does at 0, 1, infinity and NaN, and every libm does it. */
TEST(pow_at_its_ends)
{
    static const double at[] = {
        0, -0.0, 1, -1, 2, -2, 3, -3, 0.5, -0.5, 1.5, INFINITY, -INFINITY, NAN, DBL_MAX, -DBL_MAX,
        DBL_MIN, 5e-324, -5e-324, 0x1p53, 0x1p53 - 1, -0x1p52 - 1, 0x1p63, 1e300,
    };
    for (size_t i = 0; i < countof(at); i++)
        for (size_t j = 0; j < countof(at); j++) {
            double got = f_pow(at[i], at[j]), want = pow(at[i], at[j]);
            CHECK(same(got, want) || (isfinite(want) && ulps(got, want) <= 1));
            if (!same(got, want) && !(ulps(got, want) <= 1))
                printf("    pow(%g, %g): got %g, want %g\n", at[i], at[j], got, want);
        }
}

static uint64_t mix(uint64_t sum, const void *bytes, size_t n)             /* FNV-1a over words */
{
    for (size_t i = 0; i + 4 <= n; i += 4) {
        uint32_t word;
        memcpy(&word, (const char *)bytes + i, 4);
        sum = (sum ^ word) * 0x100000001b3;
    }
    return sum;
}

/* One number for the bits of 50000 values: equal for every compiler and machine. */
TEST(functions_have_the_same_bits_everywhere)
{
    uint64_t sum = 0xcbf29ce484222325;
    uint32_t state = 2;
    for (int i = 0; i < 10000; i++) {
        double x = scattered(&state, -40, 40), y = scattered(&state, 0, 100);
        double all[] = { f_exp(x), f_log(y), f_sin(x * y), f_cos(x * y * y), f_pow(y, x) };
        uint32_t words[10];
        for (int k = 0; k < 5; k++) {
            uint64_t bits;
            memcpy(&bits, &all[k], 8);
            words[2 * k] = (uint32_t)bits;
            words[2 * k + 1] = (uint32_t)(bits >> 32);
        }
        sum = mix(sum, words, sizeof words);
    }
    CHECK(sum == 0xdf8368a69da6a6c8);
    if (sum != 0xdf8368a69da6a6c8) printf("    %#llx\n", (unsigned long long)sum);
}

/* ---- noise --------------------------------------------------------------------------------- */

/* torch 2.13 on x86, printed by `python tests/sampler.py noise`: per seed one sum over the bits of
 * randn(1), randn(2) ... randn(200), randn(4096), randn(16384), randn(5), randn(17), randn(3) and
 * randn(16), drawn one after another; then the beginnings of randn(4) and of randn(16). */
TEST(noise_equals_torch)
{
    static const struct { uint64_t seed, sum; float four[4], sixteen[4]; } torch[] = {
        { 0x0u, 0x783a1a2a684517c2u,
          { 1.54099607f, -0.293428898f, -2.17878938f, 0.568431258f },
          { -1.12583983f, -1.1523602f, -0.250578582f, -0.433878809f } },
        { 0x1u, 0x8497f6fbe552fe56u,
          { 0.661352158f, 0.266924113f, 0.0616772585f, 0.621317327f },
          { -1.5255959f, -0.750231802f, -0.653980911f, -1.60948479f } },
        { 0x2au, 0x32d32923b19e803fu,
          { 0.336690366f, 0.128809407f, 0.234462366f, 0.23033303f },
          { 1.92691529f, 1.48728406f, 0.900717199f, -2.10552096f } },
        { 0x100000005u, 0xe4d108217b493fb0u,
          { -0.486780763f, -0.603821576f, -0.55809623f, 0.667524278f },
          { 1.84232986f, 0.518887162f, -1.71192133f, -1.7013793f } },
        { 0xffffffffffffffffu, 0xdb45ea96726fba04u,
          { 1.21976304f, -0.392979473f, 1.0230751f, -0.373421133f },
          { -2.66429758f, -1.0910486f, 0.451447427f, 0.228360698f } },
    };
    static const size_t after[] = { 4096, 16384, 5, 17, 3, 16 };
    static float x[16384];
    Rng r;
    for (size_t i = 0; i < countof(torch); i++) {
        uint64_t sum = 0xcbf29ce484222325;
        rng_seed(&r, torch[i].seed);
        for (size_t k = 0; k < 200 + countof(after); k++) {
            size_t n = k < 200 ? k + 1 : after[k - 200];
            randn(&r, x, n);
            sum = mix(sum, x, n * sizeof *x);
        }
        CHECK(sum == torch[i].sum);
        rng_seed(&r, torch[i].seed);
        randn(&r, x, 4);
        CHECK(!memcmp(x, torch[i].four, sizeof torch[i].four));
        rng_seed(&r, torch[i].seed);
        randn(&r, x, 16);
        CHECK(!memcmp(x, torch[i].sixteen, sizeof torch[i].sixteen));
    }
}

TEST(a_seed_counts_modulo_2_to_the_32)
{
    Rng r, s;
    float x[17], y[17];
    rng_seed(&r, 7);
    rng_seed(&s, ((uint64_t)1 << 40) + 7);
    randn(&r, x, 17);
    randn(&s, y, 17);
    CHECK(!memcmp(x, y, sizeof x));
}

/* The sine of a pair waits for the next short draw, across a long one too, until a seed. */
TEST(the_spare_value_is_kept)
{
    Rng r;
    float pair[2], one, other, long_draw[16];
    rng_seed(&r, 5);
    randn(&r, pair, 2);
    rng_seed(&r, 5);
    randn(&r, &one, 1);
    CHECK(one == pair[0] && r.has_spare);
    randn(&r, long_draw, 16);
    randn(&r, NULL, 0);
    randn(&r, &other, 1);
    CHECK(other == pair[1] && !r.has_spare);
    randn(&r, &one, 1);
    rng_seed(&r, 5);
    randn(&r, &one, 1);
    CHECK(one == pair[0]);
}

/* torch.randn(device="cuda"), two draws of one generator, by the published algorithm in NumPy; and
 * numpy.random.RandomState(seed).randn. */
TEST(noise_of_cuda_and_of_numpy)
{
    static const struct { Noise noise; uint64_t seed; float want[6]; } series[] = {
        { NOISE_CUDA, 0, { -0.9246624f, -0.42534396f, -2.6438458f, 0.14518388f,
                           0.18082589f, -0.55226272f } },
        { NOISE_CUDA, 0x200000005, { -0.80933f, 1.1234854f, 0.17516822f, 0.29054299f,
                                     0.33558047f, -0.021283478f } },
        { NOISE_NUMPY, 0, { 1.7640524f, 0.4001572f, 0.978738f, 2.2408931f, 1.8675580f,
                            -0.9772779f } },
        { NOISE_NUMPY, 4294967295, { 0.64840865f, 0.6693235f, -1.0805438f, 0.28450105f,
                                     0.11388773f, NAN } } };
    for (size_t i = 0; i < countof(series); i++) {
        float got[6];
        Rng r;
        rng_seed(&r, series[i].seed);
        r.noise = series[i].noise;
        randn(&r, got, 4);
        randn(&r, got + 4, 2);
        CLOSE(got, series[i].want, isnan(series[i].want[5]) ? 5 : 6, 1e-7);
    }
}

/* What torch.randn((3, 4), device="cuda") gave for seed 0, as rng_philox.py of
 * stable-diffusion-webui tells it. */
TEST(noise_of_cuda_is_the_published_one)
{
    static const float want[12] = {
        -0.92466259f, -0.42534415f, -2.6438457f, 0.14518388f, -0.12086647f, -0.57972564f,
        -0.62285122f, -0.32838709f, -1.07454231f, -0.36314407f, -1.67105067f, 2.26550497f };
    float got[12];
    Rng r;
    rng_seed(&r, 0);
    r.noise = NOISE_CUDA;
    randn(&r, got, 12);
    CLOSE(got, want, 12, 2e-7);
}

/* FNV-1a of the bits of RandomState(seed).randn(n).astype(float32), three draws of three seeds. */
TEST(noise_equals_numpy)
{
    static const uint64_t seeds[] = { 0, 42, 4294967295 };
    static const size_t draws[] = { 1, 16384, 37 };
    static float x[16384];
    uint64_t sum = 0xcbf29ce484222325;
    for (size_t i = 0; i < countof(seeds); i++) {
        Rng r;
        rng_seed(&r, seeds[i]);
        r.noise = NOISE_NUMPY;
        for (size_t j = 0; j < countof(draws); j++) {
            randn(&r, x, draws[j]);
            for (size_t k = 0; k < draws[j]; k++) {
                uint32_t bits;
                memcpy(&bits, &x[k], sizeof bits);
                sum = (sum ^ bits) * 0x100000001b3;
            }
        }
    }
    CHECK(sum == 0x5f3ffd3a5af8ce10);
}

TEST(noise_is_normal)
{
    enum { N = 1 << 18 };
    static float x[N];
    Rng r;
    double sum = 0, square = 0, beyond_two = 0;
    rng_seed(&r, 11);
    randn(&r, x, N);
    for (int i = 0; i < N; i++) {
        sum += (double)x[i];
        square += (double)x[i] * (double)x[i];
        beyond_two += fabsf(x[i]) > 2;
    }
    CHECK(fabs(sum / N) < 0.008 && fabs(square / N - 1) < 0.01);
    CHECK(fabs(beyond_two / N - 0.0455) < 0.002);
}
