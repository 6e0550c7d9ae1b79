/* faults.c - the program with every allocation and I/O call under a counter (make faults).  By the
 * environment: FAULT=N, the N-th call, and HOW:
 *     once      it fails (what is meant without HOW); `on`: it and all that follow
 *     a number  that signal comes before it; 9 is a power cut
 *     eintr     every call is interrupted once before it does its work
 *     short     reads and writes do half of what is asked
 * COUNT=FILE: the number of calls is written there at the end.  tests/faults.py drives it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static long calls, fault;
static int on, number, interrupted, halves;
static const char *count;

/* The program is done; what its runtime does at its end (a coverage count) is left in peace. */
static void end(void)
{
    fault = interrupted = halves = 0;
    FILE *f = count ? fopen(count, "w") : NULL;
    if (!f) return;
    fprintf(f, "%ld\n", calls);
    fclose(f);
}

/* For a program that sets its faults itself. */
void fault_at(long n);
long fault_calls(void);
void fault_at(long n) { calls = 0, fault = n; }
long fault_calls(void) { return calls; }

__attribute__((constructor)) static void begin(void)
{
    const char *n = getenv("FAULT"), *how = getenv("HOW");
    fault = n ? strtol(n, NULL, 10) : 0;
    number = how ? (int)strtol(how, NULL, 10) : 0;
    on = how && !strcmp(how, "on");
    interrupted = how && !strcmp(how, "eintr");
    halves = how && !strcmp(how, "short");
    count = getenv("COUNT");
    atexit(end);
}

/* Does this call fail?  error: how. */
static int fails(int error)
{
    const long n = __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED);
    if (!fault || n < fault || (n > fault && !on)) return 0;
    if (number) return raise(number), 0;
    errno = error;
    return 1;
}

/* The same of a call that a signal may interrupt: each comes twice, and fails at first. */
static int fails_or_waits(int error)
{
    static int second;
    if (fails(error)) return 1;
    if (!interrupted || (second = !second) == 0) return 0;
    errno = EINTR;
    return 1;
}

static size_t some(size_t n) { return halves && n > 1 ? n / 2 : n; }

#define WRAP_BY(how, type, name, arguments, values, error, failed)                             \
    type __real_##name arguments;                                                              \
    type __wrap_##name arguments;                                                              \
    type __wrap_##name arguments { return how(error) ? (failed) : __real_##name values; }
#define WRAP(...) WRAP_BY(fails, __VA_ARGS__)
#define WRAP_SLOW(...) WRAP_BY(fails_or_waits, __VA_ARGS__)

WRAP(void *, malloc, (size_t n), (n), ENOMEM, NULL)
WRAP(void *, calloc, (size_t n, size_t m), (n, m), ENOMEM, NULL)
WRAP(void *, realloc, (void *p, size_t n), (p, n), ENOMEM, NULL)
WRAP(char *, strdup, (const char *s), (s), ENOMEM, NULL)
WRAP(char *, strndup, (const char *s, size_t n), (s, n), ENOMEM, NULL)
WRAP(FILE *, open_memstream, (char **p, size_t *n), (p, n), ENOMEM, NULL)
WRAP(FILE *, fopen, (const char *p, const char *m), (p, m), EMFILE, NULL)
WRAP(int, fstat, (int fd, struct stat *s), (fd, s), EIO, -1)
WRAP(int, fcntl, (int fd, int what, int value), (fd, what, value), EMFILE, -1)
WRAP(void *, mmap, (void *p, size_t n, int a, int b, int fd, off_t o), (p, n, a, b, fd, o), ENOMEM,
     MAP_FAILED)
WRAP_SLOW(ssize_t, pread, (int fd, void *p, size_t n, off_t o), (fd, p, some(n), o), EIO, -1)
WRAP_SLOW(ssize_t, read, (int fd, void *p, size_t n), (fd, p, some(n)), EIO, -1)
WRAP_SLOW(ssize_t, write, (int fd, const void *p, size_t n), (fd, p, some(n)), ENOSPC, -1)
WRAP_SLOW(int, fsync, (int fd), (fd), EIO, -1)
WRAP(int, fchmod, (int fd, mode_t m), (fd, m), EIO, -1)
WRAP(int, ftruncate, (int fd, off_t n), (fd, n), EIO, -1)
WRAP(int, posix_fallocate, (int fd, off_t o, off_t n), (fd, o, n), 0, ENOSPC)
WRAP(int, rename, (const char *a, const char *b), (a, b), EDQUOT, -1)
WRAP(int, link, (const char *a, const char *b), (a, b), EDQUOT, -1)
WRAP(int, mkdir, (const char *p, mode_t m), (p, m), ENOSPC, -1)
WRAP(DIR *, opendir, (const char *p), (p), EMFILE, NULL)
WRAP(struct dirent *, readdir, (DIR *d), (d), EIO, NULL)

/* It closes what it says it could not, as Linux does (H13: EIO on close). */
int __real_close(int fd);
int __wrap_close(int fd);
int __wrap_close(int fd)
{
    const int failed = fails_or_waits(EIO), error = errno, done = __real_close(fd);
    errno = failed ? error : errno;
    return failed ? -1 : done;
}

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    const mode_t mode = flags & O_CREAT ? (mode_t)va_arg(args, int) : 0;
    va_end(args);
    return fails_or_waits(EMFILE) ? -1 : __real_open(path, flags, mode);
}
