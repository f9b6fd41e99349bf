/* A clock that is wrong, for a process that is started with LD_PRELOAD (see tests/src/clock.rs).
 *
 * The time of day is off by the number of milliseconds in the file OTTLA_CLOCK_CONTROL, which both
 * processes map. The clocks that only run forward are left alone: no administrator and no NTP moves them.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *off_ms;

__attribute__((constructor)) static void start(void) {
  const char *path = getenv("OTTLA_CLOCK_CONTROL");
  int fd = path ? syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC) : -1;
  if (fd < 0) return;
  void *map = mmap(NULL, sizeof *off_ms, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  syscall(SYS_close, fd);
  if (map == MAP_FAILED) abort();
  off_ms = map;
}

static int shifted(clockid_t clock) { return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE; }

int clock_gettime(clockid_t clock, struct timespec *at) {
  int result = syscall(SYS_clock_gettime, clock, at);
  if (!result && off_ms && shifted(clock)) {
    int64_t off = *off_ms, ns = at->tv_nsec + off % 1000 * 1000000;
    at->tv_sec += off / 1000;
    if (ns < 0) ns += 1000000000, --at->tv_sec;
    if (ns >= 1000000000) ns -= 1000000000, ++at->tv_sec;
    at->tv_nsec = ns;
  }
  return result;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
  struct timespec now;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &now);
  at->tv_sec = now.tv_sec, at->tv_usec = now.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *at) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (at) *at = now.tv_sec;
  return now.tv_sec;
}
