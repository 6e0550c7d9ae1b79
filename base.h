/* base.h - the cellar: errors as values, sizes that cannot wrap, time.  It knows libc and nothing
 * else.
 *
 *     Error e = {0};
 *     if (!open_something(path, &e)) fprintf(stderr, "fusion: %s\n", e.text);
 *
 * No function of the library exits, aborts or prints.  One that can fail takes an Error, says in
 * one line where, what, found and wanted, and returns false or NULL; only main.c shows it to a
 * person.
 *
 * Rounding.  A product and a sum are fused only where the text says fmaf or vfma: the pragmas below
 * forbid the compiler to do it by itself, so that `cc -O3 *.c -lm` gives the bytes that make gives.
 * */
#ifndef BASE_H
#define BASE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE                    /* mmap, fsync, clock_gettime; so base.h is included first */
#endif

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#if defined(__GNUC__)
#define PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define PRINTF(fmt, args)
#endif

#define countof(a) (sizeof(a) / sizeof *(a))

static inline int imin(int a, int b) { return a < b ? a : b; }
static inline int imax(int a, int b) { return a > b ? a : b; }
static inline size_t zmin(size_t a, size_t b) { return a < b ? a : b; }
static inline size_t zmax(size_t a, size_t b) { return a > b ? a : b; }

/* What went wrong.  code is the exit code it deserves: 0 nothing yet, 1 failed, 2 misused. */
typedef struct { int code; char text[1024]; } Error;

/* Write the message of e, unless it already holds one: the first failure is the one worth telling.
 * Control bytes of names and paths are escaped, so a message is one line whatever a file contains.
 * Returns false, so that `return fail(e, ...)` is the whole exit. */
PRINTF(2, 3) static inline bool fail(Error *e, const char *format, ...)
{
    char raw[sizeof e->text];
    if (e->code) return false;
    va_list args;
    va_start(args, format);
    vsnprintf(raw, sizeof raw, format, args);
    va_end(args);
    size_t used = 0;
    for (const char *c = raw; *c && used + 5 < sizeof e->text; c++) {
        unsigned char byte = (unsigned char)*c;
        if (byte < 0x20 || byte == 0x7f)
            used += (size_t)snprintf(e->text + used, 5, "\\x%02x", byte);
        else
            e->text[used++] = *c;
    }
    e->text[used] = 0;
    e->code = 1;
    return false;
}

/* *out = a * b, or a + b; false when it does not fit. */
static inline bool size_mul(size_t a, size_t b, size_t *out)
{
    if (b && a > SIZE_MAX / b) return false;
    *out = a * b;
    return true;
}

static inline bool size_add(size_t a, size_t b, size_t *out)
{
    if (a > SIZE_MAX - b) return false;
    *out = a + b;
    return true;
}

/* Seconds on a clock that only runs forward. */
static inline double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
