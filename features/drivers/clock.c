/* The time that a program is shown: preloaded (LD_PRELOAD) into all its processes by features/drivers/clock.py.

The wall clock stands still at what the shared file CLOCK_FILE says, so that time jumps in all processes at once, and a
scenario can tell a millisecond. The monotonic clock goes on, unless the file says that it stands still as well.

What waits does so in real time. Deadlines are made from a clock that we show, and the kernel compares them with its own:
each is moved by the difference of the two. (Time-outs that are durations, as those of epoll, poll, select and sockets,
need nothing.) File times are real. What does not ask the C library for the time (a static program, Go's, one that reads
the vDSO itself) is shown the real time. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
/* Deadlines beyond it belong to the wall clock: no machine has been up for thirty years. */
#define LONG_UP 1000000000LL

struct shown {
    volatile int64_t wall;    /* nanoseconds since the epoch */
    volatile int64_t shift;   /* nanoseconds by which the monotonic clock is ahead, while it goes on */
    volatile int64_t stopped; /* nanoseconds at which the monotonic clock stands still, or 0 */
};

static const struct shown *shown;

__attribute__((constructor)) static void open_file(void) {
    const char *name = getenv("CLOCK_FILE");
    int file = name && !shown ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *memory = mmap(NULL, sizeof *shown, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (memory != MAP_FAILED)
        shown = memory;
}

static int64_t nanoseconds(const struct timespec *time) { return time->tv_sec * SECOND + time->tv_nsec; }

static struct timespec timespec_of(int64_t nanoseconds) {
    return (struct timespec){.tv_sec = nanoseconds / SECOND, .tv_nsec = nanoseconds % SECOND};
}

static int is_wall(clockid_t clock) {
    return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI;
}

static int is_monotonic(clockid_t clock) {
    return clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE || clock == CLOCK_MONOTONIC_RAW ||
           clock == CLOCK_BOOTTIME;
}

/* By the system call: looking the library's function up takes memory, and some allocators ask for the time. */
static int real(clockid_t clock, struct timespec *time) { return (int)syscall(SYS_clock_gettime, clock, time); }

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = real(clock, time);
    if (result || !shown)
        return result;
    if (is_wall(clock))
        *time = timespec_of(shown->wall);
    else if (is_monotonic(clock))
        *time = timespec_of(shown->stopped ? shown->stopped : nanoseconds(time) + shown->shift);
    return 0;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    *time = (struct timeval){.tv_sec = now.tv_sec, .tv_usec = now.tv_nsec / 1000};
    return 0;
}

time_t time(time_t *result) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result)
        *result = now.tv_sec;
    return now.tv_sec;
}

int timespec_get(struct timespec *time, int base) {
    return base == TIME_UTC && clock_gettime(CLOCK_REALTIME, time) == 0 ? base : 0;
}

/* The moment on the kernel's clock for a deadline on the clock that we show. */
static struct timespec kernels(clockid_t clock, const struct timespec *deadline) {
    struct timespec ours, its;
    if (!shown || real(clock, &its) || clock_gettime(clock, &ours))
        return *deadline;
    int64_t moment = nanoseconds(deadline) - nanoseconds(&ours) + nanoseconds(&its);
    return timespec_of(moment > 0 ? moment : 0);
}

static clockid_t clock_of(const struct timespec *deadline) {
    return deadline->tv_sec > LONG_UP ? CLOCK_REALTIME : CLOCK_MONOTONIC;
}

#define LIBRARYS(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *request, struct timespec *rest) {
    if (!(flags & TIMER_ABSTIME))
        return LIBRARYS(clock_nanosleep)(clock, flags, request, rest);
    struct timespec moment = kernels(clock, request);
    return LIBRARYS(clock_nanosleep)(clock, flags, &moment, rest);
}

int pthread_cond_clockwait(pthread_cond_t *condition, pthread_mutex_t *mutex, clockid_t clock,
                           const struct timespec *deadline) {
    struct timespec moment = kernels(clock, deadline);
    return LIBRARYS(pthread_cond_clockwait)(condition, mutex, clock, &moment);
}

/* Its clock is the condition's, which cannot be asked for. (The library has it twice, and dlsym might find the older.) */
int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict deadline) {
    return pthread_cond_clockwait(condition, mutex, clock_of(deadline), deadline);
}

#define TIMED(name, type)                                                                                              \
    int name(type *restrict what, const struct timespec *restrict deadline) {                                          \
        struct timespec moment = kernels(CLOCK_REALTIME, deadline);                                                    \
        return LIBRARYS(name)(what, &moment);                                                                          \
    }
#define CLOCKED(name, type)                                                                                            \
    int name(type *restrict what, clockid_t clock, const struct timespec *restrict deadline) {                         \
        struct timespec moment = kernels(clock, deadline);                                                             \
        return LIBRARYS(name)(what, clock, &moment);                                                                   \
    }

TIMED(sem_timedwait, sem_t)
TIMED(pthread_mutex_timedlock, pthread_mutex_t)
TIMED(pthread_rwlock_timedrdlock, pthread_rwlock_t)
TIMED(pthread_rwlock_timedwrlock, pthread_rwlock_t)
CLOCKED(sem_clockwait, sem_t)
CLOCKED(pthread_mutex_clocklock, pthread_mutex_t)
CLOCKED(pthread_rwlock_clockrdlock, pthread_rwlock_t)
CLOCKED(pthread_rwlock_clockwrlock, pthread_rwlock_t)
