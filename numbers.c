/* numbers.c - functions of equal bits on every machine, and torch's noise.  Contract: tensor.h.
 *
 * A system's libm differs from the next one's in the last bits, so nothing here calls it: only
 * + - * /, sqrt and fma, which IEEE 754 rounds alike everywhere.  Where double is too short for a
 * last bit that is right, a number is a Pair, an unevaluated sum of two doubles (Dekker 1971). */
#include "tensor.h"
#include <math.h>

/* ---- pairs --------------------------------------------------------------------------------- */

typedef struct { double hi, lo; } Pair;

static Pair two_sum(double a, double b)                          /* a + b, exactly */
{
    double sum = a + b, part = sum - a;
    return (Pair){ sum, (a - (sum - part)) + (b - part) };
}

static Pair two_product(double a, double b)                      /* a b, exactly */
{
    double product = a * b;
    return (Pair){ product, fma(a, b, -product) };
}

static Pair pair_add(Pair a, Pair b)
{
    Pair s = two_sum(a.hi, b.hi);
    return two_sum(s.hi, s.lo + (a.lo + b.lo));
}

static Pair pair_mul(Pair a, Pair b)
{
    Pair p = two_product(a.hi, b.hi);
    return two_sum(p.hi, p.lo + (a.hi * b.lo + a.lo * b.hi));
}

/* ---- the binary form ----------------------------------------------------------------------- */

static uint64_t bits_of(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static double double_of(uint64_t bits)
{
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static double power_of_two(int k)                                /* -1022 <= k <= 1023 */
{
    return double_of((uint64_t)(k + 1023) << 52);
}

static double nearest(double x)                                 /* the whole number, |x| < 2^51 */
{
    return (x + 0x1.8p52) - 0x1.8p52;
}

/* ---- exp, log, pow ------------------------------------------------------------------------- */

/* log 2 in two parts; the first has 42 bits, so its product with an exponent is exact. */
static const double ln2_hi = 0x1.62e42fefa38p-1, ln2_lo = 0x1.ef35793c7673p-45;

/* log x = k log 2 + log m,   x = 2^k m,   sqrt(1/2) <= m < sqrt(2)
 * log m = 2 (s + s^3/3 + s^5/5 + ...),   s = (m - 1) / (m + 1),   |s| < 0.1716
 * to about 70 bits, for x positive and finite. */
static Pair log_pair(double x)
{
    bool tiny = x < 0x1p-1022;
    uint64_t bits = bits_of(tiny ? x * 0x1p54 : x);
    int k = (int)(bits >> 52) - (tiny ? 1023 + 54 : 1023);
    double m = double_of((bits & 0xfffffffffffff) | 0x3ff0000000000000);
    if (m > 0x1.6a09e667f3bcdp0) { m *= 0.5; k++; }

    double up = m - 1;                                           /* exact */
    Pair down = two_sum(m, 1);
    Pair s = { up / down.hi, 0 };
    s.lo = (fma(-s.hi, down.hi, up) - s.hi * down.lo) / down.hi;
    Pair square = pair_mul(s, s), sum = { 0, 0 };
    for (int n = 27; n >= 1; n -= 2) {
        double part = 1.0 / n;
        sum = pair_add(pair_mul(sum, square), (Pair){ part, fma(-part, n, 1) / n });
    }
    Pair log_m = pair_mul((Pair){ 2 * s.hi, 2 * s.lo }, sum);
    return pair_add(two_sum(k * ln2_hi, k * ln2_lo), log_m);
}

/* e^x = 2^k e^r,   k = nearest(x / log 2),   |r| < 0.3466;   e^r by its series. */
static double exp_pair(Pair x)
{
    static const double factor[] = {                             /* 1 / n!, n = 15 ... 2 */
        1 / 1307674368000.0, 1 / 87178291200.0, 1 / 6227020800.0, 1 / 479001600.0, 1 / 39916800.0,
        1 / 3628800.0, 1 / 362880.0, 1 / 40320.0, 1 / 5040.0, 1 / 720.0, 1 / 120.0, 1 / 24.0,
        1 / 6.0, 1 / 2.0,
    };
    if (x.hi != x.hi) return NAN;
    if (x.hi > 709.8) return INFINITY;
    if (x.hi < -745.2) return 0;

    double k = nearest(x.hi * 0x1.71547652b82fep0);
    Pair r = two_sum(x.hi - k * ln2_hi, x.lo - k * ln2_lo);
    double sum = 0;
    for (size_t n = 0; n < countof(factor); n++) sum = sum * r.hi + factor[n];
    Pair one_r = two_sum(1, r.hi);
    double e = one_r.hi + (one_r.lo + (r.lo + r.hi * (r.lo + r.hi * sum)));

    int half = (int)k / 2;                                    /* 2^k itself may not be a double */
    return e * power_of_two(half) * power_of_two((int)k - half);
}

double f_exp(double x)
{
    return exp_pair((Pair){ x, 0 });
}

double f_log(double x)
{
    if (x != x || x < 0) return NAN;
    if (x == 0) return -INFINITY;
    if (x == INFINITY) return x;
    return log_pair(x).hi;
}

/* x^y = e^(y log x); what happens at 0, infinity and NaN is C's (ISO C11, F.10.4.4). */
double f_pow(double x, double y)
{
    bool whole = fabs(y) >= 0x1p53 || (y == y && (double)(int64_t)y == y);
    bool odd = whole && fabs(y) < 0x1p53 && (int64_t)y % 2;
    double size = fabs(x), sign = odd && bits_of(x) >> 63 ? -1 : 1;

    if (y == 0 || x == 1) return 1;
    if (x != x || y != y) return NAN;
    if (x < 0 && size != INFINITY && !whole) return NAN;
    if (size == 1) return sign;
    if (size == 0 || size == INFINITY || fabs(y) == INFINITY)
        return (size > 1) == (y > 0) ? sign * INFINITY : sign * 0.0;

    Pair log_x = log_pair(size);
    if (fabs(y * log_x.hi) > 750) return (size > 1) == (y > 0) ? sign * INFINITY : sign * 0.0;
    return sign * exp_pair(pair_mul(log_x, (Pair){ y, 0 }));
}

/* ---- sin, cos ------------------------------------------------------------------------------ */

/* x = q pi/2 + r,   |r| <= pi/4;   returns q mod 4.
 * x is m 2^e with m a 53-bit integer.  Of the bits of 2/pi only 192 matter: those before, times
 * m 2^e, give multiples of 4, those after less than 2^-137 (Payne, Hanek 1983).  So one path serves
 * every x. */
static int quadrant(double x, Pair *r)
{
    static const uint32_t two_over_pi[] = {                      /* after 64 bits of zero */
        0, 0, 0xa2f9836e, 0x4e441529, 0xfc2757d1, 0xf534ddc0, 0xdb629599, 0x3c439041, 0xfe5163ab,
        0xdebbc561, 0xb7246e3a, 0x424dd2e0, 0x06492eea, 0x09d1921c, 0xfe1deb1c, 0xb129a73e,
        0xe88235f5, 0x2ebb4484, 0xe99c7026, 0xb45f7e41, 0x3991d639, 0x835339f4, 0x9c845f8b,
        0xbdf9283b, 0x1ff897ff, 0xde05980f, 0xef2f118b, 0x5a0a6d1f, 0x6d367ecf, 0x27cb09b7,
        0x4f463f66, 0x9e5fea2d, 0x7527bac7, 0xebe5f17b, 0x3d0739f7, 0x8a5292ea, 0x6bfb5fb1,
        0x1f8d5d08, 0x56033046,
    };
    *r = (Pair){ x, 0 };
    if (fabs(x) < 0x1.921fb54442d18p-1) return 0;

    uint64_t bits = bits_of(x), m = (bits & 0xfffffffffffff) | 0x10000000000000;
    int e = (int)(bits >> 52 & 0x7ff) - 1075, first = 64 + e - 2;     /* the bit worth 2 / 2^e */
    uint32_t part[7] = { 0 }, product[7] = { 0 };            /* part[0] is the most significant */
    for (int i = 0; i < 6; i++) {
        const uint32_t *w = two_over_pi + first / 32 + i;
        part[i] = (uint32_t)(((uint64_t)w[0] << 32 | w[1]) >> (32 - first % 32));
    }
    for (int limb = 0; limb < 2; limb++) {
        uint64_t factor = limb ? m >> 32 : m & 0xffffffff, carry = 0;
        for (int i = 5 - limb; i >= 0; i--) {
            carry += part[i + limb] * factor + product[i];
            product[i] = (uint32_t)carry;
            carry >>= 32;
        }
    }

    int q = (int)(product[0] >> 30);
    bool above = product[0] >> 29 & 1;                           /* a fraction of 1/2 or more */
    product[0] = (above ? ~product[0] : product[0]) & 0x3fffffff;
    Pair turn = { 0, 0 };
    double worth = 0x1p-190;
    for (int i = 5; i >= 0; i--, worth *= 0x1p32) {              /* 1 - f = ~f + 2^-190 */
        uint32_t limb = above && i ? ~product[i] : product[i];
        Pair sum = two_sum(limb * worth, turn.hi);
        turn = (Pair){ sum.hi, sum.lo + turn.lo };
    }
    *r = pair_mul(turn, (Pair){ 0x1.921fb54442d18p0, 0x1.1a62633145c07p-54 });
    if (above != (x < 0)) *r = (Pair){ -r->hi, -r->lo };
    q += above;
    return (x < 0 ? -q : q) & 3;
}

/* sin of q quarter turns and r, by the series of sine and cosine. */
static double sine_of(int q, Pair r)
{
    static const double odd[] = {                                /* sin r = r + r^3 sum */
        1 / 355687428096000.0, -1 / 1307674368000.0, 1 / 6227020800.0, -1 / 39916800.0,
        1 / 362880.0, -1 / 5040.0, 1 / 120.0, -1 / 6.0,
    }, even[] = {                                                /* cos r = 1 - r^2/2 + r^4 sum */
        -1 / 6402373705728000.0, 1 / 20922789888000.0, -1 / 87178291200.0, 1 / 479001600.0,
        -1 / 3628800.0, 1 / 40320.0, -1 / 720.0, 1 / 24.0,
    };
    double square = r.hi * r.hi, sum = 0, y;
    if (q & 1) {
        for (size_t n = 0; n < countof(even); n++) sum = sum * square + even[n];
        Pair top = two_sum(1, -0.5 * square);
        y = top.hi + (top.lo + (square * square * sum - r.hi * r.lo));
    } else {
        for (size_t n = 0; n < countof(odd); n++) sum = sum * square + odd[n];
        y = r.hi + (r.hi * square * sum + r.lo * (1 - 0.5 * square));
    }
    return q & 2 ? -y : y;
}

double f_sin(double x)
{
    if (!(fabs(x) < INFINITY)) return NAN;
    if (fabs(x) < 0x1p-30) return x;
    Pair r;
    int q = quadrant(x, &r);
    return sine_of(q, r);
}

double f_cos(double x)
{
    if (!(fabs(x) < INFINITY)) return NAN;
    Pair r;
    int q = quadrant(x, &r);
    return sine_of(q + 1, r);
}

/* ---- noise --------------------------------------------------------------------------------- */

/* Mersenne twister (Matsumoto, Nishimura 1998). */
void rng_seed(Rng *r, uint64_t seed)
{
    r->state[0] = (uint32_t)seed;
    for (uint32_t i = 1; i < 624; i++)
        r->state[i] = 1812433253u * (r->state[i - 1] ^ r->state[i - 1] >> 30) + i;
    r->noise = NOISE_TORCH;
    r->seed = seed;
    r->draws = 0;
    r->next = 624;
    r->has_spare = false;
    r->spare = 0;
}

static uint32_t rng_word(Rng *r)
{
    if (r->next == 624) {
        for (int i = 0; i < 624; i++) {
            uint32_t y = (r->state[i] & 0x80000000u) | (r->state[(i + 1) % 624] & 0x7fffffffu);
            r->state[i] = r->state[(i + 397) % 624] ^ y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
        }
        r->next = 0;
    }
    uint32_t y = r->state[r->next++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

static float uniform24(Rng *r)                                /* 24 bits of one word, in [0, 1) */
{
    return (float)(rng_word(r) & 0xffffff) * 0x1p-24f;
}

static double uniform_numpy(Rng *r)                          /* 27 and 26 bits of two words */
{
    const uint32_t high = rng_word(r) >> 5, low = rng_word(r) >> 6;
    return (high * 67108864.0 + low) * 0x1p-53;
}

static double uniform53(Rng *r)                              /* 53 bits of two words, in [0, 1) */
{
    uint64_t high = rng_word(r), low = rng_word(r);
    return (double)((high << 32 | low) & 0x1fffffffffffff) * 0x1p-53;
}

/* log u in float for 0 < u <= 1, and sin and cos of an angle in [0, 2 pi]: the minimax polynomials
 * of Moshier's Cephes, with the fused steps that torch's vector path has, so that the noise is
 * torch's to the last bit (on x86; its scalar path strays by units of the last place). */
static float log_float(float u)
{
    static const float p[] = {
        7.0376836292e-2f, -1.1514610310e-1f, 1.1676998740e-1f, -1.2420140846e-1f, 1.4249322787e-1f,
        -1.6668057665e-1f, 2.0000714765e-1f, -2.4999993993e-1f, 3.3333331174e-1f,
    };
    uint32_t bits;
    memcpy(&bits, &u, sizeof bits);
    float k = (float)((int)(bits >> 23) - 126), m;       /* u = 2^k m, sqrt(1/2) <= m < sqrt(2) */
    bits = (bits & 0x7fffff) | 0x3f000000;
    memcpy(&m, &bits, sizeof m);
    if (m < 0.70710678f) { k -= 1; m += m; }
    m -= 1;
    float square = m * m, sum = p[0];
    for (size_t n = 1; n < countof(p); n++) sum = fmaf(sum, m, p[n]);
    sum = fmaf(sum * m, square, k * -2.12194440e-4f) - 0.5f * square;
    return fmaf(k, 0.693359375f, m + sum);
}

static void sin_cos_float(float angle, float *sine, float *cosine)
{
    int eighths = ((int)(angle * 1.27323954f) + 1) & ~1, q = eighths / 2;
    float y = (float)eighths, r = fmaf(y, -0.78515625f, angle);  /* r = angle - q pi/2 */
    r = fmaf(y, -2.4187564849853515625e-4f, r);
    r = fmaf(y, -3.77489497744594108e-8f, r);
    float z = r * r;
    float c = fmaf(2.443315711809948e-5f, z, -1.388731625493765e-3f);
    float s = fmaf(-1.9515295891e-4f, z, 8.3321608736e-3f);
    c = fmaf(c, z, 4.166664568298827e-2f);
    s = fmaf(s, z, -1.6666654611e-1f);
    c = fmaf(c * z, z, -0.5f * z) + 1;
    s = fmaf(s * z, r, r);
    *sine = (q & 1 ? c : s) * (q & 2 ? -1 : 1);
    *cosine = (q & 1 ? s : c) * (q % 4 == 1 || q % 4 == 2 ? -1 : 1);
}

/* Box, Muller 1958: 8 uniform numbers for radii, 8 for angles, in place.  torch: normal_fill_16. */
static void box_muller_16(float *x)
{
    for (int i = 0; i < 8; i++) {
        float radius = sqrtf(-2 * log_float(1 - x[i])), sine, cosine;
        sin_cos_float(0x1.921fb6p2f * x[i + 8], &sine, &cosine);
        x[i] = radius * cosine;
        x[i + 8] = radius * sine;
    }
}

/* Fewer than 16: torch::normal_distribution<double>, which keeps the sine for the next call. */
static float normal_by_pairs(Rng *r)
{
    if (r->has_spare) {
        r->has_spare = false;
        return (float)r->spare;
    }
    double turn = uniform53(r), u = uniform53(r);
    double radius = sqrt(-2 * f_log(1 - u)), angle = 2 * 0x1.921fb54442d18p1 * turn;
    r->spare = radius * f_sin(angle);
    r->has_spare = true;
    return (float)(radius * f_cos(angle));
}

/* Philox4x32-10, Salmon et al. 2011: ten rounds of two products over a counter, first two words. */
static void philox(uint64_t key, uint32_t c[4])
{
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++, k0 += 0x9e3779b9u, k1 += 0xbb67ae85u) {
        const uint64_t a = (uint64_t)0xd2511f53u * c[0], b = (uint64_t)0xcd9e8d57u * c[2];
        const uint32_t next[4] = { (uint32_t)(b >> 32) ^ c[1] ^ k0, (uint32_t)b,
                                   (uint32_t)(a >> 32) ^ c[3] ^ k1, (uint32_t)a };
        memcpy(c, next, sizeof next);
    }
}

/* torch.randn on CUDA: value i is the sine half of Box and Muller over counter (draw, 0, i, 0). */
static void randn_cuda(Rng *r, float *out, size_t n)
{
    const double unit = 2.3283064e-10f, turn = (float)(2.3283064e-10 * 6.2831855);
    for (size_t i = 0; i < n; i++) {
        uint32_t c[4] = { r->draws, 0, (uint32_t)i, 0 };
        philox(r->seed, c);
        const double u = c[0] * unit + unit / 2, v = c[1] * turn + turn / 2;
        out[i] = (float)(sqrt(-2 * f_log(u)) * f_sin(v));
    }
    r->draws++;
}

/* RandomState.randn: Marsaglia's polar method, the second of each pair first. */
static double normal_polar(Rng *r)
{
    double x, y, square;
    if ((r->has_spare = !r->has_spare) == false) return r->spare;
    do {
        x = 2 * uniform_numpy(r) - 1;
        y = 2 * uniform_numpy(r) - 1;
        square = x * x + y * y;
    } while (square >= 1 || square == 0);
    const double factor = sqrt(-2 * f_log(square) / square);
    r->spare = factor * x;
    return factor * y;
}

void randn(Rng *r, float *out, size_t n)
{
    if (r->noise == NOISE_CUDA) {
        randn_cuda(r, out, n);
        return;
    }
    if (r->noise == NOISE_NUMPY) {
        for (size_t i = 0; i < n; i++) out[i] = (float)normal_polar(r);
        return;
    }
    if (n < 16) {
        for (size_t i = 0; i < n; i++) out[i] = normal_by_pairs(r);
        return;
    }
    for (size_t i = 0; i < n; i++) out[i] = uniform24(r);
    for (size_t i = 0; i + 16 <= n; i += 16) box_muller_16(out + i);
    if (n % 16) {                                                /* the last 16 are drawn anew */
        for (size_t i = n - 16; i < n; i++) out[i] = uniform24(r);
        box_muller_16(out + n - 16);
    }
}
