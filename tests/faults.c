/* faults.c - the program with every allocation and I/O call under a counter (make faults): with
 * FAULT=N in the environment the N-th of them fails, with COUNT=FILE their number is written there
 * at the end.  tests/faults.py drives it. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static long calls, fault;
static const char *count;

static void tell_count(void)
{
    FILE *f = fopen(count, "w");
    if (!f) return;
    fprintf(f, "%ld\n", calls);
    fclose(f);
}

__attribute__((constructor)) static void begin(void)
{
    const char *n = getenv("FAULT");
    fault = n ? strtol(n, NULL, 10) : 0;
    count = getenv("COUNT");
    if (count) atexit(tell_count);
}

/* Does this call fail?  error: how. */
static int fails(int error)
{
    if (__atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED) != fault) return 0;
    errno = error;
    return 1;
}

#define WRAP(type, name, arguments, values, error, failed)                                     \
    type __real_##name arguments;                                                              \
    type __wrap_##name arguments;                                                              \
    type __wrap_##name arguments { return fails(error) ? (failed) : __real_##name values; }

WRAP(void *, malloc, (size_t n), (n), ENOMEM, NULL)
WRAP(void *, calloc, (size_t n, size_t m), (n, m), ENOMEM, NULL)
WRAP(void *, realloc, (void *p, size_t n), (p, n), ENOMEM, NULL)
WRAP(char *, strdup, (const char *s), (s), ENOMEM, NULL)
WRAP(char *, strndup, (const char *s, size_t n), (s, n), ENOMEM, NULL)
WRAP(FILE *, open_memstream, (char **p, size_t *n), (p, n), ENOMEM, NULL)
WRAP(FILE *, fopen, (const char *p, const char *m), (p, m), EMFILE, NULL)
WRAP(int, fstat, (int fd, struct stat *s), (fd, s), EIO, -1)
WRAP(void *, mmap, (void *p, size_t n, int a, int b, int fd, off_t o), (p, n, a, b, fd, o), ENOMEM,
     MAP_FAILED)
WRAP(ssize_t, pread, (int fd, void *p, size_t n, off_t o), (fd, p, n, o), EIO, -1)
WRAP(ssize_t, read, (int fd, void *p, size_t n), (fd, p, n), EIO, -1)
WRAP(ssize_t, write, (int fd, const void *p, size_t n), (fd, p, n), ENOSPC, -1)
WRAP(int, fsync, (int fd), (fd), EIO, -1)
WRAP(int, ftruncate, (int fd, off_t n), (fd, n), EIO, -1)
WRAP(int, posix_fallocate, (int fd, off_t o, off_t n), (fd, o, n), 0, ENOSPC)
WRAP(int, rename, (const char *a, const char *b), (a, b), EDQUOT, -1)
WRAP(int, link, (const char *a, const char *b), (a, b), EDQUOT, -1)
WRAP(int, mkdir, (const char *p, mode_t m), (p, m), ENOSPC, -1)
WRAP(DIR *, opendir, (const char *p), (p), EMFILE, NULL)

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    const mode_t mode = flags & O_CREAT ? (mode_t)va_arg(args, int) : 0;
    va_end(args);
    return fails(EMFILE) ? -1 : __real_open(path, flags, mode);
}

