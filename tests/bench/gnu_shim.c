/* Puts GNU ddrescue before a simulated drive: its reads of the input and its clock go to the benchmark.
 *
 * Preloaded (LD_PRELOAD). The input is the file named by BENCH_INPUT. Each read of it is asked over descriptor
 * BENCH_ASK as two int64 (position, size), and answered over BENCH_HEAR as two doubles: the simulated time, and 1 where
 * the bytes came or 0 where the read failed. time() is the simulated time; nothing sleeps.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double now = 1e9;
static int input = -1;

static int from(const char *name) { return atoi(getenv(name)); }

static int opened(const char *path, int fd) {
    const char *wanted = getenv("BENCH_INPUT");
    if (fd >= 0 && wanted && strcmp(path, wanted) == 0) input = fd;
    return fd;
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = va_arg(rest, mode_t);
    va_end(rest);
    return opened(path, openat(AT_FDCWD, path, flags, mode));
}

int __open64_2(const char *path, int flags) { return opened(path, openat(AT_FDCWD, path, flags)); }

ssize_t read(int fd, void *buffer, size_t size) {
    static ssize_t (*real)(int, void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "read");
    if (fd != input) return real(fd, buffer, size);
    int64_t question[2] = {lseek(fd, 0, SEEK_CUR), (int64_t)size};
    double answer[2];
    if (write(from("BENCH_ASK"), question, sizeof question) != sizeof question) abort();
    if (real(from("BENCH_HEAR"), answer, sizeof answer) != sizeof answer) abort();
    now = 1e9 + answer[0];
    if (answer[1] == 0.0) {
        errno = EIO;
        return -1;
    }
    memset(buffer, 0, size);
    lseek(fd, (off_t)size, SEEK_CUR);
    return (ssize_t)size;
}

time_t time(time_t *out) {
    if (out) *out = (time_t)now;
    return (time_t)now;
}

unsigned sleep(unsigned seconds) { (void)seconds; return 0; }
