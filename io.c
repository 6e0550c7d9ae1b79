/* io.c - files in, outputs out, arrays, memory.  JSON is in json.c, weights in safetensors.c.
 *
 * Files and outputs hang in two lists that signal handlers may read: a node is linked when it is
 * whole and unlinked before it is freed.  The main thread alone changes them. */
#include "io.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_SHOWN = 600 };               /* more of a path would push the reason out of a message */

/* path: what: the reason errno gives. */
static bool fail_errno(Error *e, const char *path, const char *what, int reason)
{
    size_t n = strlen(path), cut = n > PATH_SHOWN ? n - PATH_SHOWN : 0;
    return fail(e, "%s%s: %s: %s", cut ? "..." : n ? "" : "''", path + cut, what, strerror(reason));
}

static bool out_of_memory(Error *e, const char *path, size_t bytes, const char *purpose)
{
    return fail(e, "%s: out of memory: needed %zu bytes for %s", path, bytes, purpose);
}

/* ---- files in -------------------------------------------------------------------------------- */

typedef struct Mapping {
    struct Mapping *volatile next;
    const uint8_t *at; size_t size;
    char path[];                           /* File.path points here */
} Mapping;

static Mapping *volatile mappings;

static bool not_regular(Error *e, const char *path, mode_t mode)
{
    return fail(e, "%s: not a regular file, it is %s", path,
                S_ISDIR(mode) ? "a folder" : S_ISFIFO(mode) ? "a pipe" :
                S_ISSOCK(mode) ? "a socket" : S_ISCHR(mode) || S_ISBLK(mode) ? "a device" :
                "a system file without a size");
}

/* open, again when a signal came in between. */
static int open_patiently(const char *path, int flags, mode_t mode)
{
    int fd;
    do fd = open(path, flags, mode);
    while (fd < 0 && errno == EINTR);
    return fd;
}

/* Up to n bytes from an offset on, less only where the file ends; -1: errno says why. */
static ssize_t read_at(int fd, uint8_t *out, size_t n, off_t from)
{
    size_t done = 0;
    while (done < n) {
        const ssize_t some = pread(fd, out + done, n - done, from + (off_t)done);
        if (some < 0 && errno == EINTR) continue;
        if (some < 0) return -1;
        if (!some) break;
        done += (size_t)some;
    }
    return (ssize_t)done;
}

/* Read what cannot be mapped (on some network and user-space file systems) into memory that unmaps
 * like a file. */
static const uint8_t *read_whole(int fd, size_t size, const char *path, Error *e)
{
    uint8_t *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) {
        out_of_memory(e, path, size, "the file");
        return NULL;
    }
    const ssize_t n = read_at(fd, at, size, 0);
    if (n == (ssize_t)size) return at;
    if (n < 0) fail_errno(e, path, "cannot read", errno);
    else fail(e, "%s: became shorter while it was read", path);
    munmap(at, size);
    return NULL;
}

static bool map_open(File *f, int fd, const char *path, size_t limit, Error *e)
{
    struct stat s;
    uint8_t byte;
    if (fstat(fd, &s)) return fail_errno(e, path, "cannot read", errno);
    bool more = S_ISREG(s.st_mode) && !s.st_size && read_at(fd, &byte, 1, 0) != 0;  /* /proc: 0 */
    if (!S_ISREG(s.st_mode) || more) return not_regular(e, path, s.st_mode);
    unsigned long long size = (unsigned long long)s.st_size;
    if (limit && size > limit)
        return fail(e, "%s: too large, found %llu bytes, want at most %zu", path, size, limit);
    if (size > PTRDIFF_MAX)
        return fail(e, "%s: too large for this machine, found %llu bytes", path, size);

    size_t length = strlen(path) + 1;
    Mapping *m = malloc(sizeof *m + length);
    if (!m) return out_of_memory(e, path, sizeof *m + length, "its name");
    *m = (Mapping){ .next = mappings, .size = (size_t)size };
    memcpy(m->path, path, length);
    if (size) {
        void *at = mmap(NULL, m->size, PROT_READ, MAP_PRIVATE, fd, 0);
        m->at = at != MAP_FAILED ? at : read_whole(fd, m->size, path, e);
        if (!m->at) {
            free(m);
            return false;
        }
    }
    mappings = m;
    *f = (File){ m->at, m->size, m->path };
    return true;
}

/* A descriptor for reading, or -1 with e; also where path_join found no room for path. */
static int open_file(const char *path, Error *e)
{
    if (!path) {
        fail(e, "out of memory: needed room for a name");
        return -1;
    }
    const int flags = O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;      /* never wait for a pipe */
    int fd = open_patiently(path, flags, 0);
    if (fd >= 0) return fd;
    int reason = errno;
    struct stat s;
    if (!stat(path, &s) && !S_ISREG(s.st_mode)) not_regular(e, path, s.st_mode);
    else fail_errno(e, path, "cannot open", reason);
    return -1;
}

size_t file_head(const char *path, uint8_t *head, size_t n, Error *e)
{
    struct stat s = { 0 };
    ssize_t some;
    int fd = open_file(path, e);
    if (fd < 0) return 0;
    if (fstat(fd, &s) || !S_ISREG(s.st_mode)) {
        not_regular(e, path, s.st_mode);
        close(fd);
        return 0;
    }
    some = read_at(fd, head, n, 0);
    if (some < 0) fail_errno(e, path, "cannot read", errno);
    close(fd);
    return some > 0 ? (size_t)some : 0;
}

bool file_map(File *f, const char *path, size_t limit, Error *e)
{
    *f = (File){ 0 };
    int fd = open_file(path, e);
    if (fd < 0) return false;
    bool ok = map_open(f, fd, path, limit, e);
    close(fd);
    return ok;
}

void file_unmap(File *f)
{
    for (Mapping *volatile *link = &mappings; f->path && *link; link = &(*link)->next) {
        Mapping *m = *link;
        if (m->path != f->path) continue;
        *link = m->next;
        machine_weights_gone();
        if (m->size) munmap((void *)m->at, m->size);
        free(m);
        break;
    }
    *f = (File){ 0 };
}

const char *file_at(const void *address)
{
    for (const Mapping *m = mappings; m; m = m->next)
        if ((uintptr_t)address - (uintptr_t)m->at < m->size) return m->path;
    return NULL;
}

/* ---- foreign formats ------------------------------------------------------------------------- */

static bool holds(const uint8_t *bytes, size_t size, size_t at, const char *magic, size_t n)
{
    return size >= at && size - at >= n && !memcmp(bytes + at, magic, n);
}

/* True when the text at bytes begins with word, letters of any case. */
static bool begins(const uint8_t *bytes, size_t size, const char *word)
{
    for (size_t i = 0; word[i]; i++)
        if (i >= size || tolower(bytes[i]) != word[i]) return false;
    return true;
}

static const char *foreign_text(const uint8_t *bytes, size_t size)
{
    if (!size) return NULL;
    if (holds(bytes, size, 0, "\xff\xfe", 2) || holds(bytes, size, 0, "\xfe\xff", 2))
        return "UTF-16 text";
    size_t skip = holds(bytes, size, 0, "\xef\xbb\xbf", 3) ? 3 : 0;
    while (skip < size && bytes[skip] && strchr(" \t\r\n", bytes[skip])) skip++;
    bytes += skip;
    size -= skip;
    if (begins(bytes, size, "version https://git-lfs"))
        return "a Git LFS pointer (run git lfs pull)";
    if (begins(bytes, size, "<!doctype html") || begins(bytes, size, "<html")
        || begins(bytes, size, "<head")) return "an HTML page";
    if (begins(bytes, size, "<?xml")) return "an XML page";
    return size && (*bytes == '{' || *bytes == '[') ? "JSON text" : NULL;
}

const char *foreign_format(const uint8_t *bytes, size_t size)
{
    static const struct { size_t at; const char *magic; size_t n; const char *name; } formats[] = {
        { 0, "GGUF", 4, "a GGUF model" },           { 0, "lmgg", 4, "a GGML model" },
        { 0, "tjgg", 4, "a GGML model" },           { 0, "\x89HDF\r\n\x1a\n", 8, "HDF5 (Keras)" },
        { 4, "TFL3", 4, "a TFLite model" },         { 0, "\x93NUMPY", 6, "a NumPy array" },
        { 0, "\x80\x02", 2, "a pickle" },           { 0, "\x80\x03", 2, "a pickle" },
        { 0, "\x80\x04", 2, "a pickle" },           { 0, "\x80\x05", 2, "a pickle" },
        { 0, "\x1f\x8b", 2, "gzip" },               { 0, "BZh", 3, "bzip2" },
        { 0, "\xfd" "7zXZ", 6, "xz" },              { 0, "\x28\xb5\x2f\xfd", 4, "zstd" },
        { 0, "7z\xbc\xaf\x27\x1c", 6, "a 7z archive" }, { 257, "ustar", 5, "a tar archive" },
        { 0, "%PDF", 4, "a PDF" },                  { 0, "\x7f" "ELF", 4, "a program" },
        { 0, "\x89PNG\r\n\x1a\n", 8, "a PNG picture" }, { 0, "\xff\xd8\xff", 3, "a JPEG picture" },
        { 0, "GIF8", 4, "a GIF picture" },          { 8, "WEBP", 4, "a WebP picture" },
        { 8, "WAVE", 4, "a WAV sound" },            { 0, "fLaC", 4, "a FLAC sound" },
        { 0, "OggS", 4, "an Ogg sound" },           { 0, "ID3", 3, "an MP3 sound" },
    };
    if (holds(bytes, size, 0, "PK\3\4", 4))    /* torch.save's zip begins with its data.pkl */
        return size > 30 && memmem(bytes + 30, zmin(size - 30, 200), "data.pkl", 8)
             ? "a PyTorch checkpoint (zip and pickle)" : "a zip archive";
    for (size_t i = 0; i < countof(formats); i++)
        if (holds(bytes, size, formats[i].at, formats[i].magic, formats[i].n))
            return formats[i].name;

    size_t zeros = 0;
    while (zeros < zmin(size, 64) && !bytes[zeros]) zeros++;
    if (zeros >= 8 && zeros == zmin(size, 64)) return "nothing but zeros (a broken download?)";
    if (holds(bytes, size, 4, "\0\0\0\0{", 5)) return "a safetensors file";
    return foreign_text(bytes, size);
}

/* ---- paths ----------------------------------------------------------------------------------- */

bool file_exists(const char *path)
{
    struct stat s;
    return !stat(path, &s) && S_ISREG(s.st_mode);
}

bool folder_exists(const char *path)
{
    struct stat s;
    return !stat(path, &s) && S_ISDIR(s.st_mode);
}

char *path_join(const char *folder, const char *name)
{
    size_t n = strlen(folder), m = strlen(name);
    bool slash = n && folder[n - 1] != '/';
    char *joined = malloc(n + m + 2);
    if (!joined) return NULL;
    memcpy(joined, folder, n);
    joined[n] = '/';
    memcpy(joined + n + slash, name, m + 1);
    return joined;
}

/* Where the links of path's last part lead, in memory the caller frees; nothing need be there. */
static char *follow(const char *path, Error *e)
{
    char link[PATH_MAX];
    char *at = strdup(path);
    for (int hops = 0; at && hops < 40; hops++) {                     /* as many as Linux follows */
        ssize_t n = readlink(at, link, sizeof link);
        if (n < 0) return at;
        char *slash = strrchr(at, '/');
        if (slash) slash[1] = 0;
        else at[0] = 0;
        if (n == (ssize_t)sizeof link) break;
        link[n] = 0;
        char *next = link[0] == '/' ? strdup(link) : path_join(at, link);
        free(at);
        at = next;
    }
    if (at) fail_errno(e, path, "cannot write", ELOOP);
    else out_of_memory(e, path, strlen(path) + 1, "its name");
    free(at);
    return NULL;
}

/* ---- outputs --------------------------------------------------------------------------------- */

struct Output {
    Output *volatile next;
    char *path;                            /* as given, for messages */
    char *target;                      /* what is replaced in the end; NULL when written directly */
    char *volatile temporary;              /* what a signal handler must remove */
    int fd;
    bool broken;                           /* a write failed: nothing may be committed */
    bool in_memory;
    uint8_t *bytes; size_t count, room;    /* what was written into memory */
    size_t used;
    uint8_t buffer[1 << 16];
};

static Output *volatile outputs;

/* Descriptors 0, 1 and 2 stay the standard ones even where they came closed: what is printed must
 * not land in an output. */
static int above_standard(int fd)
{
    if (fd < 0 || fd > 2) return fd;
    int high = fcntl(fd, F_DUPFD_CLOEXEC, 3), reason = errno;
    close(fd);
    errno = reason;
    return high;
}

/* A new hidden file in the folder of beside, named after it, into o->fd and o->temporary.  The name
 * is there before the file, so that a signal that falls between them leaves nothing. */
static bool create_beside(Output *o, const char *beside, int access_mode, Error *e)
{
    const char *slash = strrchr(beside, '/'), *name = slash ? slash + 1 : beside;
    size_t folder = (size_t)(name - beside), room = folder + 280;
    char *temporary = malloc(room);
    if (!temporary) return out_of_memory(e, o->path, room, "a temporary name");
    for (int i = 0; i < 1000; i++) {
        snprintf(temporary, room, "%.*s.%.200s.fusion-%ld-%d.tmp", (int)folder, beside, name,
                 (long)getpid(), i);
        o->temporary = temporary;
        const int flags = access_mode | O_CREAT | O_EXCL | O_CLOEXEC;
        o->fd = above_standard(open_patiently(temporary, flags, 0666));
        if (o->fd >= 0) return true;
        o->temporary = NULL;
        if (errno != EEXIST) break;
    }
    free(temporary);
    return fail_errno(e, o->path, "cannot write", errno);
}

static void remove_temporary(Output *o)
{
    char *temporary = o->temporary;
    if (!temporary) return;
    unlink(temporary);
    o->temporary = NULL;
    free(temporary);
}

/* For what is a regular file or does not exist yet. */
static bool open_beside(Output *o, Error *e)
{
    struct stat s;
    o->target = follow(o->path, e);
    if (!o->target) return false;
    if (!*o->target) return fail_errno(e, o->path, "cannot write", ENOENT);
    bool replaces = !stat(o->target, &s);
    if (replaces && access(o->target, W_OK)) return fail_errno(e, o->path, "cannot write", errno);
    if (!create_beside(o, o->target, O_WRONLY, e)) return false;
    if (replaces && fchmod(o->fd, s.st_mode & 0777))
        return fail_errno(e, o->path, "cannot write", errno);
    return true;
}

/* A descriptor of its own, so that closing it leaves the standard one. */
static bool open_standard(Output *o, Error *e)
{
    o->fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    return o->fd >= 0 || fail_errno(e, o->path, "cannot write", errno);
}

static bool open_direct(Output *o, mode_t mode, Error *e)
{
    if (S_ISDIR(mode)) return fail(e, "%s: cannot write: it is a folder", o->path);
    o->fd = open_patiently(o->path, O_WRONLY | O_CLOEXEC | O_NOCTTY, 0);
    o->fd = above_standard(o->fd);
    return o->fd >= 0 || fail_errno(e, o->path, "cannot write", errno);
}

/* An output without a file yet, in the list. */
static Output *output_new(const char *path, Error *e)
{
    Output *o = malloc(sizeof *o);
    char *copied = strdup(path);
    if (!o || !copied) {
        out_of_memory(e, path, sizeof *o, "the output's buffer");
        free(o);
        free(copied);
        return NULL;
    }
    o->path = copied;
    o->target = o->temporary = NULL;
    o->fd = -1;
    o->broken = o->in_memory = false;
    o->bytes = NULL;
    o->count = o->room = o->used = 0;
    o->next = outputs;
    outputs = o;
    return o;
}

Output *output_open(const char *path, Error *e)
{
    struct stat s;
    bool standard = !strcmp(path, "-") || !strcmp(path, "/dev/stdout");
    Output *o = output_new(standard ? "standard output" : path, e);
    if (!o) return NULL;
    bool ok = standard ? open_standard(o, e)
            : !stat(path, &s) && !S_ISREG(s.st_mode) ? open_direct(o, s.st_mode, e)
            : open_beside(o, e);
    if (ok) return o;
    output_discard(o);
    return NULL;
}

static bool write_all(Output *o, const uint8_t *bytes, size_t n, Error *e)
{
    while (n && !o->broken) {
        ssize_t some = write(o->fd, bytes, zmin(n, 1 << 30));
        if (some < 0 && errno == EINTR) continue;
        if (some <= 0) {
            o->broken = true;
            return fail_errno(e, o->path, "cannot write", some ? errno : ENOSPC);
        }
        bytes += some;
        n -= (size_t)some;
    }
    return !o->broken || fail(e, "%s: cannot write: an earlier write failed", o->path);
}

static bool flush(Output *o, Error *e)
{
    size_t n = o->used;
    o->used = 0;
    return write_all(o, o->buffer, n, e);
}

static bool keep_bytes(Output *o, const void *bytes, size_t n, Error *e)
{
    size_t need;
    bool fits = size_add(o->count, n, &need);
    if (fits && need > o->room) {
        const size_t room = zmax(need, o->room > SIZE_MAX / 2 ? need : 2 * o->room);
        uint8_t *more = realloc(o->bytes, room);
        if (more) o->bytes = more, o->room = room;
        fits = more;
    }
    if (!fits) return out_of_memory(e, o->path, n, "more bytes");
    if (n) memcpy(o->bytes + o->count, bytes, n);
    o->count = need;
    return true;
}

bool output_write(Output *o, const void *bytes, size_t n, Error *e)
{
    if (o->in_memory) return keep_bytes(o, bytes, n, e);
    if (n > sizeof o->buffer - o->used && !flush(o, e)) return false;
    if (n > sizeof o->buffer) return write_all(o, bytes, n, e);
    if (n) memcpy(o->buffer + o->used, bytes, n);
    o->used += n;
    return true;
}

static int sync_file(int fd)
{
    int failed;
    do failed = fsync(fd);
    while (failed && errno == EINTR);
    return failed;
}

/* So that the new name survives a power loss, where the file system can promise that. */
static void sync_folder(const char *target)
{
    const char *slash = strrchr(target, '/');
    char *folder = slash ? strndup(target, (size_t)(slash - target) + 1) : strdup(".");
    int fd = folder ? open_patiently(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0) : -1;
    free(folder);
    if (fd < 0) return;
    sync_file(fd);
    close(fd);
}

bool output_commit(Output *o, Error *e)
{
    bool ok = flush(o, e);
    if (ok && o->target && sync_file(o->fd) && errno != EINVAL)
        ok = fail_errno(e, o->path, "cannot write", errno);
    if (close(o->fd) && errno != EINTR && ok) ok = fail_errno(e, o->path, "cannot write", errno);
    o->fd = -1;
    if (ok && o->target) {
        char *renamed = o->temporary;
        ok = !rename(renamed, o->target) || fail_errno(e, o->path, "cannot write", errno);
        if (ok) {
            o->temporary = NULL;
            free(renamed);
            sync_folder(o->target);
        }
    }
    output_discard(o);
    return ok;
}

void output_discard(Output *o)
{
    if (!o) return;
    remove_temporary(o);
    for (Output *volatile *link = &outputs; *link; link = &(*link)->next) {
        if (*link != o) continue;
        *link = o->next;
        break;
    }
    if (o->fd >= 0) close(o->fd);
    free(o->target);
    free(o->path);
    free(o->bytes);
    free(o);
}

void output_discard_all(void)
{
    for (Output *o = outputs; o; o = o->next)
        if (o->temporary) unlink(o->temporary);
}

Output *output_aside(const Output *o, Error *e)
{
    Output *aside = output_new(o->path, e);
    if (!aside) return NULL;
    const char *folder = getenv("TMPDIR");
    if (!folder || !*folder) folder = "/tmp";
    char *beside = o->target ? strdup(o->target) : path_join(folder, "data");
    bool ok = beside ? create_beside(aside, beside, O_RDWR, e)
                     : out_of_memory(e, o->path, strlen(o->path), "a temporary name");
    free(beside);
    remove_temporary(aside);
    if (ok) return aside;
    output_discard(aside);
    return NULL;
}

bool output_append(Output *o, Output *aside, Error *e)
{
    if (!flush(aside, e)) return false;
    for (off_t at = 0; ; ) {
        const ssize_t n = read_at(aside->fd, aside->buffer, sizeof aside->buffer, at);
        if (n < 0) return fail_errno(e, o->path, "cannot read its temporary data", errno);
        if (n == 0) return true;
        if (!output_write(o, aside->buffer, (size_t)n, e)) return false;
        at += n;
    }
}

Output *output_memory(const char *name, Error *e)
{
    Output *o = output_new(name, e);
    if (o) o->in_memory = true;
    return o;
}

const uint8_t *output_bytes(const Output *o, size_t *n)
{
    *n = o->count;
    return o->bytes;
}

/* ---- arrays ---------------------------------------------------------------------------------- */

/* The header of numpy.lib.format 1.0: a Python dict, padded so that the data begin at 64 n. */
bool npy_write(const char *path, int rank, const int *shape, const float *data, Error *e)
{
    char dict[1024];
    size_t bytes = sizeof *data, used;
    if (rank > 32) return fail(e, "%s: an array of %d dimensions, want at most 32", path, rank);
    used = (size_t)snprintf(dict, sizeof dict,
                            "{'descr': '<f4', 'fortran_order': False, 'shape': (");
    for (int i = 0; i < rank; i++) {
        if (shape[i] < 0 || !size_mul(bytes, (size_t)shape[i], &bytes))
            return fail(e, "%s: an array dimension of %d is negative or too large", path, shape[i]);
        used += (size_t)snprintf(dict + used, sizeof dict - used,
                                 rank == 1 ? "%d," : i ? ", %d" : "%d", shape[i]);
    }
    used += (size_t)snprintf(dict + used, sizeof dict - used, "), }");
    size_t length = (10 + used + 1 + 63) / 64 * 64 - 10;          /* after magic, version, length */
    while (used < length - 1) dict[used++] = ' ';
    dict[used] = '\n';
    const uint8_t head[10] = { 0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0,
                               (uint8_t)length, (uint8_t)(length >> 8) };

    Output *o = output_open(path, e);
    if (!o) return false;
    if (output_write(o, head, sizeof head, e) && output_write(o, dict, length, e)
        && output_write(o, data, bytes, e)) return output_commit(o, e);
    output_discard(o);
    return false;
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* "640 bytes", "1.2 GB". */
static const char *size_shown(size_t bytes, char out[32])
{
    static const char *const units[] = { "kB", "MB", "GB", "TB", "PB", "EB" };
    double value = (double)bytes;
    int unit = -1;
    for (; value >= 999.95 && unit < 5; unit++) value /= 1000;
    if (unit < 0) snprintf(out, 32, "%zu bytes", bytes);
    else snprintf(out, 32, "%.1f %s", value, units[unit]);
    return out;
}

/* A new file of size bytes that has no name any more.  Its blocks are reserved here, since a full
 * disk would later be a signal and no error. */
static int scratch_open(const char *path, size_t size, Error *e)
{
    char shown[32], what[80];
    int fd = open_patiently(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        fail_errno(e, path, "cannot make the scratch file", errno);
        return -1;
    }
    unlink(path);
    int reason = EFBIG;
    if (size <= PTRDIFF_MAX)
        do reason = posix_fallocate(fd, 0, (off_t)size);
        while (reason == EINTR);
    if (reason == EOPNOTSUPP || reason == EINVAL) reason = ftruncate(fd, (off_t)size) ? errno : 0;
    if (!reason) return fd;
    snprintf(what, sizeof what, "cannot hold the %s of activations", size_shown(size, shown));
    fail_errno(e, path, what, reason);
    close(fd);
    return -1;
}

bool arena_open(Arena *m, size_t size, const char *scratch, Error *e)
{
    char shown[32];
    int fd = -1;
    size = zmax(size, 1);
    *m = (Arena){ 0 };
    if (scratch && (fd = scratch_open(scratch, size, e)) < 0) return false;
    void *base = mmap(NULL, size, PROT_READ | PROT_WRITE,
                      scratch ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, fd, 0);
    if (fd >= 0) close(fd);
    if (base == MAP_FAILED)
        return fail(e, "out of memory: needed %s for activations", size_shown(size, shown));
    if (machine_arena(base, size, e)) {
        *m = (Arena){ .base = base, .size = size };
        return true;
    }
    munmap(base, size);
    return false;
}

void arena_close(Arena *m)
{
    machine_arena_gone(m->base);
    if (m->base) munmap(m->base, m->size);
    *m = (Arena){ 0 };
}
