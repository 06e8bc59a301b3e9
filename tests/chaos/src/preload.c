/* Another wall clock and a slow disk for one process, without touching the machine's: preloaded into what runs on a host.
 * FLOWYARD_CHAOS_FAULTS names a file of two integers that the suite writes while it runs. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct faults {
    volatile int64_t clock_offset_ms;
    volatile int64_t sync_delay_ms;
};

static struct faults nothing, *faults = &nothing;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FLOWYARD_CHAOS_FAULTS");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *seen = mmap(NULL, sizeof(struct faults), PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (seen != MAP_FAILED)
        faults = seen;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int failed = syscall(SYS_clock_gettime, clock, time);
    if (failed || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE))
        return failed;
    int64_t ns = time->tv_nsec + faults->clock_offset_ms % 1000 * 1000000;
    time->tv_sec += faults->clock_offset_ms / 1000;
    if (ns < 0) {
        ns += 1000000000;
        time->tv_sec -= 1;
    }
    time->tv_sec += ns / 1000000000;
    time->tv_nsec = ns % 1000000000;
    return 0;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    (void)zone;
    struct timespec now;
    int failed = clock_gettime(CLOCK_REALTIME, &now);
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return failed;
}

time_t time(time_t *into) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (into)
        *into = now.tv_sec;
    return now.tv_sec;
}

static void take_long(void) {
    int64_t ms = faults->sync_delay_ms;
    struct timespec left = {ms / 1000, ms % 1000 * 1000000};
    if (ms > 0)
        nanosleep(&left, NULL);
}

int fsync(int file) {
    take_long();
    return syscall(SYS_fsync, file);
}

int fdatasync(int file) {
    take_long();
    return syscall(SYS_fdatasync, file);
}
