/* A file layer that fails: one call of this process that changes a file below FAULT_BELOW answers with FAULT_ERRNO.
   Loaded by LD_PRELOAD into the supervisor alone; its children are not touched. FAULT_AT is which call, from 1; 0 none.
   How many there were is in the file FAULT_COUNT at the end of the process. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static char below[PATH_MAX], count_file[PATH_MAX];
static long at, calls;
static int error_number;
static pid_t owner;

__attribute__((constructor)) static void begin(void) {
    const char *text = getenv("FAULT_BELOW");
    owner = getpid();
    if (text) snprintf(below, sizeof below, "%s/", text);
    if ((text = getenv("FAULT_COUNT"))) snprintf(count_file, sizeof count_file, "%s", text);
    if ((text = getenv("FAULT_AT"))) at = atol(text);
    if ((text = getenv("FAULT_ERRNO"))) error_number = atoi(text);
    unsetenv("LD_PRELOAD");
}

__attribute__((destructor)) static void end(void) {
    FILE *file;
    if (getpid() != owner || !count_file[0]) return;
    at = 0;
    if ((file = fopen(count_file, "w"))) {
        fprintf(file, "%ld", calls);
        fclose(file);
    }
}

static int fails_at(const char *path) {
    if (!below[0] || getpid() != owner || strncmp(path, below, strlen(below)) != 0) return 0;
    if (__sync_add_and_fetch(&calls, 1) != at) return 0;
    errno = error_number;
    return 1;
}

static int fails_on(int fd) {
    char link[64], path[PATH_MAX];
    ssize_t size;
    int kept = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    size = readlink(link, path, sizeof path - 1);
    errno = kept;
    if (size < 0) return 0;
    path[size] = 0;
    return fails_at(path);
}

static int fails_in(int folder, const char *name) {
    char link[64], path[2 * PATH_MAX];
    ssize_t size;
    if (name[0] == '/') return fails_at(name);
    if (folder == AT_FDCWD) return getcwd(path, PATH_MAX) ? fails_at(strcat(strcat(path, "/"), name)) : 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    if ((size = readlink(link, path, PATH_MAX - 1)) < 0) return 0;
    path[size] = 0;
    return fails_at(strcat(strcat(path, "/"), name));
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *data, size_t size) { return fails_on(fd) ? -1 : REAL(write)(fd, data, size); }
int fsync(int fd) { return fails_on(fd) ? -1 : REAL(fsync)(fd); }
int fdatasync(int fd) { return fails_on(fd) ? -1 : REAL(fdatasync)(fd); }
int ftruncate(int fd, off_t size) { return fails_on(fd) ? -1 : REAL(ftruncate)(fd, size); }
int ftruncate64(int fd, off64_t size) { return fails_on(fd) ? -1 : REAL(ftruncate64)(fd, size); }
int rename(const char *a, const char *b) { return fails_in(AT_FDCWD, b) ? -1 : REAL(rename)(a, b); }
int renameat(int d, const char *a, int e, const char *b) { return fails_in(e, b) ? -1 : REAL(renameat)(d, a, e, b); }
int link(const char *a, const char *b) { return fails_in(AT_FDCWD, b) ? -1 : REAL(link)(a, b); }
int mkdir(const char *path, mode_t mode) { return fails_in(AT_FDCWD, path) ? -1 : REAL(mkdir)(path, mode); }

static int opens(int folder, const char *path, int flags) { return (flags & O_CREAT) && fails_in(folder, path); }
#define MODE(flags) mode_t mode = 0; if ((flags) & (O_CREAT | O_TMPFILE)) { va_list more; va_start(more, flags); mode = va_arg(more, mode_t); va_end(more); }

int open(const char *path, int flags, ...) {
    MODE(flags)
    return opens(AT_FDCWD, path, flags) ? -1 : REAL(open)(path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    MODE(flags)
    return opens(AT_FDCWD, path, flags) ? -1 : REAL(open64)(path, flags, mode);
}
int openat(int folder, const char *path, int flags, ...) {
    MODE(flags)
    return opens(folder, path, flags) ? -1 : REAL(openat)(folder, path, flags, mode);
}
