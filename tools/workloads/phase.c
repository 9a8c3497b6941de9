// SPDX-License-Identifier: GPL-2.0-only
// A phase of a server: threads fill memory with buffers and free most of them in random order.
//
//     phase THREADS MIB SMALLEST LARGEST KEEP SECONDS
//
// Prints "ready" and waits for a line on stdin. Then each thread fills its share of MIB with
// buffers of SMALLEST to LARGEST bytes, and frees all but every KEEP-th (0: all) in random order,
// spread over SECONDS, with some new allocations in between. Prints "done", then reads lines until
// the end: "release" calls the gperftools function that returns free memory; an address discards
// the 2 MiB there, which must be free.

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

extern void MallocExtension_ReleaseFreeMemory(void) __attribute__((weak));

static size_t share, smallest, largest, keep;
static double seconds;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void *phase(void *number) {
    unsigned seed = (unsigned)(size_t)number;
    size_t count = 0, room = 2 * share / (smallest + largest) + 16, used = 0;
    char **held = malloc(room * sizeof(*held));
    while (used < share && count < room) {
        size_t size = smallest + rand_r(&seed) % (largest - smallest + 1);
        held[count] = malloc(size);
        memset(held[count++], 7, size);
        used += size;
    }
    for (size_t i = count; i > 1; i--) {
        size_t j = (((size_t)rand_r(&seed) << 15) ^ rand_r(&seed)) % i;
        char *swap = held[i - 1];
        held[i - 1] = held[j];
        held[j] = swap;
    }
    double begin = now();
    for (size_t i = 0; i < count; i++) {
        if (keep && i % keep == 0)
            continue;
        free(held[i]);
        if (i % 8 == 0) {  // some memory is reused at once
            size_t size = smallest + rand_r(&seed) % (largest - smallest + 1);
            char *again = malloc(size);
            memset(again, 7, size);
            free(again);
        }
        double early = begin + seconds * i / count - now();
        if (early > 0)
            usleep(early * 1e6);
    }
    return held;
}

int main(int argc, char **argv) {
    if (argc != 7)
        return 2;
    int count = atoi(argv[1]);
    pthread_t threads[64];
    share = ((size_t)atoi(argv[2]) << 20) / count;
    smallest = atol(argv[3]), largest = atol(argv[4]), keep = atol(argv[5]), seconds = atof(argv[6]);
    puts("ready");
    fflush(stdout);
    getchar();  // the line that starts it
    for (int i = 0; i < count && i < 64; i++)
        pthread_create(&threads[i], NULL, phase, (void *)(size_t)(i + 1));
    for (int i = 0; i < count && i < 64; i++)
        pthread_join(threads[i], NULL);
    puts("done");
    fflush(stdout);
    for (char line[64]; fgets(line, sizeof line, stdin);) {
        if (strcmp(line, "release\n") == 0 && MallocExtension_ReleaseFreeMemory)
            MallocExtension_ReleaseFreeMemory();
        else if (line[0] == '0')
            madvise((void *)strtoul(line, NULL, 16), 2 << 20, MADV_DONTNEED);
    }
    return 0;
}
