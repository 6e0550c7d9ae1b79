/* lanes.h - what one lane computes: e^x, erf, tanh, the activations, and Winograd's transforms.
 * One text for every instruction set (kernel.h) and for a device (kernels.cl), each with a
 * vocabulary of its own: V, U, KER, vfma, vdup, vbits, vvalue, vgreater, vselect, vmax.  So the
 * bits agree. */

/* ---- functions ------------------------------------------------------------------------------- */

/* e^x up to x = 88, 1 ulp: x = n ln 2 + r, e^r by a polynomial fitted on |r| <= ln 2 / 2, n into
 * the exponent.  Below -87.3 exactly 0: what the polynomial made there is thrown away. */
ALWAYS V KER(exp_to_88)(V x)
{
    const V magic = vdup(12582912.0f);                             /* 1.5 * 2^23: rounds to whole */
    V shifted = vfma(x, vdup(1.44269504f), magic), n = shifted - magic;
    V r = vfma(n, vdup(-0.693359375f), x);                         /* ln 2 in two parts */
    r = vfma(n, vdup(2.12194440e-4f), r);
    V p = vdup(0.001394470571540296f);
    p = vfma(p, r, vdup(0.008333497680723667f));
    p = vfma(p, r, vdup(0.04166629537940025f));
    p = vfma(p, r, vdup(0.1666666567325592f));
    p = vfma(p, r, vdup(0.5f));
    p = vfma(p, r * r, r) + vdup(1.0f);
    return vvalue((vbits(p) + (vbits(shifted) << 23)) & vgreater(x, vdup(-87.3f)));
}

ALWAYS V KER(exp)(V x)
{
    return vselect(vgreater(x, vdup(88.0f)), vdup(INFINITY), KER(exp_to_88)(x));
}

/* erf(x): x + x P(x^2) up to 1, beyond 1 - exp(-Q(|x|)) with Q fitted to -ln erfc; from 4 on 1. */
ALWAYS V KER(erf)(V x)
{
    const U sign = vbits(x) & vbits(vdup(-0.0f));
    V a = vvalue(vbits(x) ^ sign), s = x * x;
    V p = vdup(7.889123662607744e-05f);
    p = vfma(p, s, vdup(-0.0008020843961276114f));
    p = vfma(p, s, vdup(0.005189536139369011f));
    p = vfma(p, s, vdup(-0.026854444295167923f));
    p = vfma(p, s, vdup(0.11283600330352783f));
    p = vfma(p, s, vdup(-0.3761262595653534f));
    p = vfma(p, s, vdup(0.12837916612625122f));
    p = vfma(p, x, x);
    V t = vselect(vgreater(vdup(4.0f), a), a, vdup(4.0f));
    V q = vdup(2.1686804757337086e-05f);
    q = vfma(q, t, vdup(-0.00044133581104688346f));
    q = vfma(q, t, vdup(0.00420455913990736f));
    q = vfma(q, t, vdup(-0.02520824782550335f));
    q = vfma(q, t, vdup(0.10841856151819229f));
    q = vfma(q, t, vdup(0.6332198977470398f));
    q = vfma(q, t, vdup(1.1295784711837769f));
    q = vfma(q, t, vdup(-0.0001880386407719925f));
    q = vdup(1.0f) - KER(exp)(vdup(0.0f) - q);
    return vselect(vgreater(a, vdup(1.0f)), vvalue(vbits(q) | sign), p);
}

/* x * sigmoid(k): SiLU for k = x, quick GELU for k = 1.702 x, the tanh form of GELU for
 * k = 2 u(x). */
ALWAYS V KER(gate)(V x, V k) { return x / (vdup(1.0f) + KER(exp)(vdup(0.0f) - k)); }

ALWAYS V KER(gelu)(V x)                                            /* x Phi(x), torch's default */
{
    return (x * vdup(0.5f)) * (vdup(1.0f) + KER(erf)(x * vdup(0.70710678f)));
}

/* tanh(x): x + x P(x^2) up to 0.6, beyond 1 - 2 / (e^(2x) + 1). */
ALWAYS V KER(tanh)(V x)
{
    const U sign = vbits(x) & vbits(vdup(-0.0f));
    V a = vvalue(vbits(x) ^ sign), s = x * x;
    V p = vdup(-0.0058433134108781815f);
    p = vfma(p, s, vdup(0.02075549215078354f));
    p = vfma(p, s, vdup(-0.053773149847984314f));
    p = vfma(p, s, vdup(0.13331815600395203f));
    p = vfma(p, s, vdup(-0.33333295583724976f));
    p = vfma(p * s, x, x);
    V q = vdup(1.0f) - vdup(2.0f) / (KER(exp)(a + a) + vdup(1.0f));
    return vselect(vgreater(a, vdup(0.6f)), vvalue(vbits(q) | sign), p);
}

ALWAYS V KER(apply)(V x, Act act)
{
    switch (act) {
    case SILU: return KER(gate)(x, x);
    case QUICK_GELU: return KER(gate)(x, x * vdup(1.702f));
    case GELU: return KER(gelu)(x);
    case GELU_TANH:                        /* 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) */
        return KER(gate)(x, vdup(1.59576912f) * vfma(x * x * x, vdup(0.044715f), x));
    case RELU: return vmax(x, vdup(0.0f));
    case TANH: return KER(tanh)(x);
    case IDENTITY: break;
    }
    return x;
}

/* ---- Winograd F(4x4,3x3) --------------------------------------------------------------------- */

/* Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", with the points 0, +-P, +-Q,
 * inf: Y = A' [ (G g G') o (B' d B) ] A.  P = 3/4 and Q = 3/2 make every constant of B and A exact
 * in float, and the error half of that of the usual 1 and 2. */
#define P1 0.75f
#define P2 0.5625f
#define P3 0.421875f
#define Q1 1.5f
#define Q2 2.25f
#define Q3 3.375f

/* One column of B' d: six values a step s apart, in place. */
ALWAYS void KER(wino_b)(V *d, const int s)
{
    V even_q = vfma(vdup(-Q2), d[2 * s], d[4 * s]),
      odd_q = vfma(vdup(-Q2), d[s], d[3 * s]) * vdup(P1);
    V even_p = vfma(vdup(-P2), d[2 * s], d[4 * s]),
      odd_p = vfma(vdup(-P2), d[s], d[3 * s]) * vdup(Q1);
    d[0] = vfma(vdup(P2 * Q2), d[0], vfma(vdup(-(P2 + Q2)), d[2 * s], d[4 * s]));
    d[5 * s] = vfma(vdup(P2 * Q2), d[s], vfma(vdup(-(P2 + Q2)), d[3 * s], d[5 * s]));
    d[s] = even_q + odd_q;
    d[2 * s] = even_q - odd_q;
    d[3 * s] = even_p + odd_p;
    d[4 * s] = even_p - odd_p;
}

/* G times three values: six, written s apart. */
ALWAYS void KER(wino_g)(V x, V y, V z, V *to, const int s)
{
    const float p = 1.0f / (2 * P2 * (P2 - Q2)), q = 1.0f / (2 * Q2 * (Q2 - P2));
    V even_p = vfma(vdup(P2), z, x) * vdup(p), odd_p = y * vdup(P1 * p);
    V even_q = vfma(vdup(Q2), z, x) * vdup(q), odd_q = y * vdup(Q1 * q);
    to[0] = x * vdup(1.0f / (P2 * Q2));
    to[s] = even_p + odd_p;
    to[2 * s] = even_p - odd_p;
    to[3 * s] = even_q + odd_q;
    to[4 * s] = even_q - odd_q;
    to[5 * s] = z;
}

/* A' times six values s apart: four, written t apart. */
ALWAYS void KER(wino_a)(const V *d, const int s, V *to, const int t)
{
    V sum_p = d[s] + d[2 * s], gap_p = d[s] - d[2 * s];
    V sum_q = d[3 * s] + d[4 * s], gap_q = d[3 * s] - d[4 * s];
    to[0] = d[0] + sum_p + sum_q;
    to[t] = vfma(vdup(Q1), gap_q, gap_p * vdup(P1));
    to[2 * t] = vfma(vdup(Q2), sum_q, sum_p * vdup(P2));
    to[3 * t] = vfma(vdup(Q3), gap_q, vfma(vdup(P3), gap_p, d[5 * s]));
}

#undef P1
#undef P2
#undef P3
#undef Q1
#undef Q2
#undef Q3
