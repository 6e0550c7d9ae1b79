/* folder.c - folders: what lies below one, and moves that never overwrite. */
#include "io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- walking --------------------------------------------------------------------------------- */

typedef struct {
    const char *root;
    Listing *out; size_t room;
    char **open; size_t open_count, open_room;       /* folders still to be read, below the root */
    Lost *lost; void *self;
    Error *e;
} Walk;

static bool walk_memory(Walk *w)
{
    return fail(w->e, "%s: out of memory: needed room for the names in it", w->root);
}

/* One file or folder cannot be looked at: the walk goes on without it. */
static void lose(Walk *w, const char *below, int reason)
{
    char *path = path_join(w->root, below);
    Error why = { 0 };
    fail(&why, "%s: cannot read: %s", path ? path : below, strerror(reason));
    if (w->lost) w->lost(w->self, why.text);
    free(path);
}

/* Nanoseconds since 1970; years that do not fit wrap, which still tells a change. */
static int64_t nanoseconds(struct timespec t)
{
    return (int64_t)((uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec);
}

static bool add_file(Walk *w, char *below, const struct stat *s)
{
    if (w->out->count == w->room) {
        const size_t room = 2 * w->room + 64;
        Listed *more = realloc(w->out->at, room * sizeof *more);
        if (!more) return walk_memory(w);
        w->out->at = more;
        w->room = room;
    }
    w->out->at[w->out->count++] = (Listed){ below, (int64_t)s->st_size, nanoseconds(s->st_mtim) };
    return true;
}

static bool add_folder(Walk *w, char *below)
{
    if (w->open_count == w->open_room) {
        const size_t room = 2 * w->open_room + 16;
        char **more = realloc(w->open, room * sizeof *more);
        if (!more) return walk_memory(w);
        w->open = more;
        w->open_room = room;
    }
    w->open[w->open_count++] = below;
    return true;
}

/* One entry of an open folder.  Links to folders are not followed: no loop can be entered. */
static bool look_at(Walk *w, int folder, const char *name, const char *below)
{
    struct stat s;
    bool kept = false, ok = true;
    char *path = *below ? path_join(below, name) : strdup(name);
    if (!path) return walk_memory(w);
    bool seen = !fstatat(folder, name, &s, AT_SYMLINK_NOFOLLOW);
    const bool link = seen && S_ISLNK(s.st_mode);
    if (link) seen = !fstatat(folder, name, &s, 0);
    if (!seen) lose(w, path, errno);
    else if (S_ISREG(s.st_mode)) ok = kept = add_file(w, path, &s);
    else if (S_ISDIR(s.st_mode) && !link) ok = kept = add_folder(w, path);
    if (!kept) free(path);
    return ok;
}

static bool read_folder(Walk *w, const char *below)
{
    char *path = *below ? path_join(w->root, below) : strdup(w->root);
    DIR *d = path ? opendir(path) : NULL;
    bool ok = path || walk_memory(w);
    if (ok && !d && !*below) ok = fail(w->e, "%s: cannot read: %s", path, strerror(errno));
    else if (ok && !d) lose(w, below, errno);
    errno = 0;
    for (struct dirent *entry; ok && d && (entry = readdir(d)); errno = 0)
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
            ok = look_at(w, dirfd(d), entry->d_name, below);
    if (ok && d && errno) lose(w, below, errno);
    if (d) closedir(d);
    free(path);
    return ok;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const Listed *)a)->path, ((const Listed *)b)->path);
}

bool folder_list(const char *folder, Listing *out, Lost *lost, void *self, Error *e)
{
    Walk w = { .root = folder, .out = out, .lost = lost, .self = self, .e = e };
    *out = (Listing){ 0 };
    bool ok = read_folder(&w, "");
    while (ok && w.open_count) {
        char *below = w.open[--w.open_count];
        ok = read_folder(&w, below);
        free(below);
    }
    while (w.open_count) free(w.open[--w.open_count]);
    free(w.open);
    if (!ok) listing_free(out);
    else if (out->count) qsort(out->at, out->count, sizeof *out->at, by_path);
    return ok;
}

void listing_free(Listing *l)
{
    for (size_t i = 0; i < l->count; i++) free(l->at[i].path);
    free(l->at);
    *l = (Listing){ 0 };
}

const Listed *listing_find(const Listing *l, const char *path)
{
    const Listed key = { .path = (char *)path };
    return l->count ? bsearch(&key, l->at, l->count, sizeof key, by_path) : NULL;
}

/* ---- moving ---------------------------------------------------------------------------------- */

bool path_taken(const char *path)
{
    struct stat s;
    return !lstat(path, &s);
}

bool path_is_link(const char *path)
{
    struct stat s;
    return !lstat(path, &s) && S_ISLNK(s.st_mode);
}

/* 0, or why not.  Where the system has no rename that refuses, a link refuses. */
static int move_without_overwriting(const char *from, const char *to)
{
#if defined(SYS_renameat2)
    const unsigned no_replace = 1;                         /* RENAME_NOREPLACE of linux/fs.h */
    if (!syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, no_replace)) return 0;
    if (errno != ENOSYS && errno != EINVAL) return errno;
#endif
    if (link(from, to)) return errno;
    return unlink(from) ? errno : 0;
}

bool file_move(const char *from, const char *to, Error *e)
{
    const int reason = move_without_overwriting(from, to);
    return !reason || fail(e, "%s: cannot move to %s: %s", from, to, strerror(reason));
}

bool folder_make(const char *path, bool *made, Error *e)
{
    *made = !mkdir(path, 0777);
    return *made || (errno == EEXIST && folder_exists(path))
        || fail(e, "%s: cannot make this folder: %s", path,
                strerror(errno == EEXIST ? ENOTDIR : errno));
}
