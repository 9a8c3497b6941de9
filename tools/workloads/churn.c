// SPDX-License-Identifier: GPL-2.0-only
// Threads that allocate, fill and free blocks of mixed sizes, then stop.
//
//     churn THREADS SECONDS [ROUNDS]
//
// With ROUNDS, the threads wait for a line on stdin, and each ends after ROUNDS rounds of 1000
// blocks, however long they take, so that the work is always the same. Prints "done" when the
// threads have ended, then waits for a line on stdin. Another thread than the one that allocated
// a block frees it, for half of the blocks.

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { HELD = 4096, SHARED = 256 };

static void *shared[SHARED];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static time_t deadline;
static long rounds;

static int goes_on(long round) {
    return rounds ? round < rounds : time(NULL) < deadline;
}

static size_t some_size(unsigned *seed) {
    unsigned draw = rand_r(seed) % 100;
    if (draw < 80)
        return 16 + rand_r(seed) % 2048;
    if (draw < 98)
        return 4096 + rand_r(seed) % (128 << 10);
    return (256 << 10) + rand_r(seed) % (4 << 20);
}

static void *churn(void *number) {
    unsigned seed = (unsigned)(size_t)number;
    void **held = calloc(HELD, sizeof(*held));
    for (long round = 0; goes_on(round); round++) {
        for (int i = 0; i < 1000; i++) {
            int at = rand_r(&seed) % HELD;
            size_t size = some_size(&seed);
            void *block = malloc(size);
            memset(block, 7, size);
            if (i % 2) {
                free(held[at]);
                held[at] = block;
                continue;
            }
            pthread_mutex_lock(&lock);
            void *old = shared[at % SHARED];
            shared[at % SHARED] = block;
            pthread_mutex_unlock(&lock);
            free(old);
        }
        if (rand_r(&seed) % 64 == 0)  // sometimes free nearly everything
            for (int at = 0; at < HELD; at++)
                if (at % 16) {
                    free(held[at]);
                    held[at] = NULL;
                }
    }
    for (int at = 0; at < HELD; at++)
        if (at % 8)
            free(held[at]);
    return held;
}

int main(int argc, char **argv) {
    if (argc != 3 && argc != 4)
        return 2;
    if (argc == 4) {
        rounds = atol(argv[3]);
        for (int c = 0; c != '\n' && c != EOF;)
            c = getchar();
    }
    pthread_t threads[64];
    int count = atoi(argv[1]) < 64 ? atoi(argv[1]) : 64;
    deadline = time(NULL) + atoi(argv[2]);
    for (int i = 0; i < count; i++)
        pthread_create(&threads[i], NULL, churn, (void *)(size_t)(i + 1));
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    puts("done");
    fflush(stdout);
    getchar();
    return 0;
}
