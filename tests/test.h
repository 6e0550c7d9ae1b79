/* test.h - a test file is a list of facts.  TEST registers itself; main returns 1 if any fact
 * failed, and closes with the line `N passed, N failed`. */
#ifndef TEST_H
#define TEST_H
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Test { const char *name; void (*run)(void); struct Test *next; } Test;
static Test *tests_first, **tests_last = &tests_first;
static int checks_failed;

#define TEST(id)                                                                            \
    static void id(void);                                                                   \
    static Test id##_test = { #id, id, NULL };                                              \
    __attribute__((constructor)) static void id##_add(void)                                 \
    { *tests_last = &id##_test; tests_last = &id##_test.next; }                             \
    static void id(void)

#define CHECK(fact) \
    do { if (!(fact)) { checks_failed++;                                                    \
             printf("%s:%d: not so: %s\n", __FILE__, __LINE__, #fact); } } while (0)

#define CHECK_STR(got, want)                                                                \
    do { const char *g_ = (got), *w_ = (want);                                              \
         if (strcmp(g_, w_)) { checks_failed++;                                             \
             printf("%s:%d: got '%s', want '%s'\n", __FILE__, __LINE__, g_, w_); } } while (0)

/* Largest |got - want| over n, relative to the largest |want| (NaN anywhere gives infinity). */
static inline double worst_relative(const float *got, const float *want, size_t n)
{
    double worst = 0, largest = 1e-30;
    for (size_t i = 0; i < n; i++) {
        double gap = fabs((double)got[i] - want[i]);
        if (!(gap <= 1e30)) return INFINITY;
        if (gap > worst) worst = gap;
        if (fabs((double)want[i]) > largest) largest = fabs((double)want[i]);
    }
    return worst / largest;
}

#define CLOSE(got, want, n, bound)                                                          \
    do { double worst_ = worst_relative(got, want, n);                                      \
         if (!(worst_ <= (bound))) { checks_failed++;                                       \
             printf("%s:%d: %s is off by %.2e of the largest value, bound %.2e\n",           \
                    __FILE__, __LINE__, #got, worst_, (double)(bound)); } } while (0)

int main(int argc, char **argv)
{
    int passed = 0, failed = 0;
    for (Test *t = tests_first; t; t = t->next) {
        if (argc > 1 && !strstr(t->name, argv[1])) continue;
        int before = checks_failed;
        t->run();
        if (checks_failed == before) passed++;
        else { failed++; printf("FAILED %s\n", t->name); }
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
#endif
