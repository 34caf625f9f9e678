/* A few threads that share the work of one call.
 *
 * Work is claimed chunk by chunk, so that a thread which the system does not run holds nobody up:
 * the caller then does everything by itself. Helpers spin between the phases of a call and sleep
 * between calls. A call that finds the pool taken works alone; results never depend on it. A pool
 * lasts as long as the process.
 */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "native.h"

enum { SPINS = 4000 }; /* some tens of microseconds */

typedef struct {
    Pool *pool;
    int thread;
} Helper;

struct Pool {
    int helpers;
    Helper names[MOST_THREADS];
    pthread_mutex_t owner; /* held by the call that has the pool */
    pthread_mutex_t mutex; /* guards the condition */
    pthread_cond_t condition;
    Task task;
    void *context;
    /* A phase in one word, so that a claim of an old phase can't take from a new one:
     * its number (32 bits), the first chunk left (16), the end of those left (16). */
    _Atomic uint64_t ticket;
    _Atomic int done, sleeping, open;
    int forks;
};

static int forks; /* threads don't survive a fork: a pool made before one has none */

static void count_fork(void) { forks++; }

static inline void rest(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Claim a chunk: the caller from the front, helpers from the back, so that with two threads each
 * meets the weights that its own cache holds. Returns -1 where nothing is left. */
static int claim(Pool *pool, int from_front) {
    uint64_t ticket = atomic_load(&pool->ticket);
    for (;;) {
        uint64_t first = ticket >> 16 & 0xffff, end = ticket & 0xffff;
        if (first >= end) return -1;
        uint64_t next = from_front ? ticket + (1 << 16) : ticket - 1;
        if (atomic_compare_exchange_weak(&pool->ticket, &ticket, next))
            return (int)(from_front ? first : end - 1);
    }
}

static int has_work(Pool *pool) {
    uint64_t ticket = atomic_load(&pool->ticket);
    return (ticket >> 16 & 0xffff) < (ticket & 0xffff);
}

static void *help(void *argument) {
    Helper *helper = argument;
    Pool *pool = helper->pool;
    for (int spins = 0;;) {
        int chunk = claim(pool, 0);
        if (chunk >= 0) {
            pool->task(pool->context, chunk, helper->thread);
            atomic_fetch_add(&pool->done, 1);
            spins = 0;
        } else if (atomic_load(&pool->open) && spins < SPINS) {
            spins++;
            rest();
        } else {
            pthread_mutex_lock(&pool->mutex);
            atomic_fetch_add(&pool->sleeping, 1);
            while (!has_work(pool)) pthread_cond_wait(&pool->condition, &pool->mutex);
            atomic_fetch_sub(&pool->sleeping, 1);
            pthread_mutex_unlock(&pool->mutex);
            spins = 0;
        }
    }
    return NULL; /* never: a pool lasts as long as the process */
}

static void wake(Pool *pool) {
    if (!atomic_load(&pool->sleeping)) return;
    pthread_mutex_lock(&pool->mutex);
    pthread_cond_broadcast(&pool->condition);
    pthread_mutex_unlock(&pool->mutex);
}

__attribute__((visibility("default"))) Pool *nextword_pool_new(int threads) {
    static _Atomic int registered;
    if (!atomic_exchange(&registered, 1)) pthread_atfork(NULL, NULL, count_fork);
    Pool *pool = calloc(1, sizeof *pool);
    if (!pool) return NULL;
    pthread_mutex_init(&pool->owner, NULL);
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->condition, NULL);
    pool->forks = forks;
    sigset_t all, before; /* signals are for the threads that Python knows */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (int i = 1; i < threads && i < MOST_THREADS; i++) {
        Helper *helper = &pool->names[pool->helpers];
        *helper = (Helper){pool, pool->helpers + 1};
        pthread_t thread;
        if (pthread_create(&thread, NULL, help, helper)) break;
        pthread_detach(thread);
        pool->helpers++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return pool;
}

/* Take the pool for a call; false where another call has it, or it has no helpers. */
int pool_begin(Pool *pool) {
    if (!pool || !pool->helpers || pool->forks != forks) return 0;
    if (pthread_mutex_trylock(&pool->owner)) return 0;
    atomic_store(&pool->open, 1);
    return 1;
}

void pool_end(Pool *pool) {
    atomic_store(&pool->open, 0);
    pthread_mutex_unlock(&pool->owner);
}

int pool_threads(const Pool *pool) { return pool ? pool->helpers + 1 : 1; }

/* Run chunks 0..``chunks`` - 1 and return when all are done. */
void pool_run(Pool *pool, Task task, void *context, int chunks) {
    if (!pool || chunks < 2 || chunks > 0xffff) {
        for (int chunk = 0; chunk < chunks; chunk++) task(context, chunk, 0);
        return;
    }
    pool->task = task;
    pool->context = context;
    atomic_store(&pool->done, 0);
    uint64_t number = (atomic_load(&pool->ticket) >> 32) + 1;
    atomic_store(&pool->ticket, number << 32 | (uint64_t)chunks);
    wake(pool);
    for (int chunk; (chunk = claim(pool, 1)) >= 0;) {
        task(context, chunk, 0);
        atomic_fetch_add(&pool->done, 1);
    }
    for (int spins = 0; atomic_load(&pool->done) < chunks; spins++) {
        rest();
        if (spins > SPINS) sched_yield(); /* its helper waits for a processor: maybe this one */
    }
}
