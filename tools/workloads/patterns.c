// SPDX-License-Identifier: GPL-2.0-only
// Threads that keep a pattern in every allocation and check it: does an allocator, or what is
// hooked into it, ever lose a byte?
//
//     patterns THREADS SECONDS
//
// The threads allocate all sizes in several ways, enlarge and shrink, in place and not, and free
// blocks of each other. Meanwhile the main thread forks, and each child does the same for a
// moment; under jemalloc it also makes arenas, fills, resets and destroys them, and has all arenas
// purge, unless PURGE=no is set. Prints the number of operations; aborts at the first wrong byte.
// Compile with -DPREFIX=je_ for a jemalloc that is linked under a prefix.

#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifdef PREFIX
#define JOINED(a, b) a##b
#define JOIN(a, b) JOINED(a, b)
#define JE(name) JOIN(PREFIX, name)
void *JE(malloc)(size_t);
void *JE(calloc)(size_t, size_t);
void *JE(realloc)(void *, size_t);
void *JE(aligned_alloc)(size_t, size_t);
void JE(free)(void *);
#else
#define JE(name) name
#endif
#define WEAK __attribute__((weak))
int JE(mallctl)(const char *, void *, size_t *, void *, size_t) WEAK;
void *JE(mallocx)(size_t, int) WEAK;
void *JE(rallocx)(void *, size_t, int) WEAK;
void JE(dallocx)(void *, int) WEAK;
size_t JE(xallocx)(void *, size_t, size_t, int) WEAK;

enum { HELD = 192, SHARED = 64, IN_ARENA = 64, ROOM = 96 << 20 };

struct block {
    unsigned char *memory;
    size_t size;
    uint64_t seed;
};

struct worker {
    uint64_t draw;
    uint64_t operations;
    size_t used;
    struct block held[HELD];
};

static struct block shared[SHARED];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static time_t deadline;

static uint64_t some(struct worker *w, uint64_t below) {
    w->draw = w->draw * 6364136223846793005u + 1442695040888963407u;
    return (w->draw >> 33) % below;
}

static size_t some_size(struct worker *w) {
    uint64_t draw = some(w, 100);
    if (draw < 55)
        return 1 + some(w, 4096);
    if (draw < 80)
        return 1 + some(w, 128 << 10);
    if (draw < 97)
        return 1 + some(w, 3 << 20);
    return 1 + some(w, 12 << 20);
}

// The byte at an offset. One in 64 bytes of large blocks is written and checked, and all others of
// the same cache line stay what they were; each page has 64 of them.
static unsigned char byte_at(const struct block *b, size_t at) {
    return (unsigned char)((b->seed + at) * 0x9e3779b97f4a7c15u >> 56) | 1;
}

static size_t step(const struct block *b) {
    return b->size > 8192 ? 64 : 1;
}

static void fill(struct block *b) {
    for (size_t at = 0; at < b->size; at += step(b))
        b->memory[at] = byte_at(b, at);
    b->memory[b->size - 1] = byte_at(b, b->size - 1);
}

static void check(const struct block *b, size_t size, const char *when) {
    size_t by = step(b);
    for (size_t at = 0; at < size; at += by)
        if (b->memory[at] != byte_at(b, at)) {
            fprintf(stderr, "wrong byte %s: block %p of %zu, offset %zu, is %u\n", when,
                    (void *)b->memory, b->size, at, b->memory[at]);
            abort();
        }
}

static void check_zero(const unsigned char *memory, size_t size) {
    for (size_t at = 0; at < size; at += size > 8192 ? 64 : 1)
        if (memory[at]) {
            fprintf(stderr, "calloc of %zu is not zero at %zu\n", size, at);
            abort();
        }
}

static void make(struct worker *w, struct block *b) {
    size_t size = some_size(w);
    if (w->used + size > ROOM)
        size = 1 + some(w, 4096);
    b->size = size;
    b->seed = w->draw;
    switch (some(w, 4)) {
    case 0:
        b->memory = JE(calloc)(1, size);
        if (b->memory)
            check_zero(b->memory, size);
        break;
    case 1: {
        size_t alignment = (size_t)16 << some(w, 12);
        b->memory = JE(aligned_alloc)(alignment, (size + alignment - 1) & ~(alignment - 1));
        break;
    }
    default:
        b->memory = JE(malloc)(size);
    }
    if (!b->memory)
        abort();
    w->used += size;
    fill(b);
}

static void drop(struct worker *w, struct block *b) {
    check(b, b->size, "before free");
    w->used -= b->size;
    JE(free)(b->memory);
    b->memory = NULL;
}

static void resize(struct worker *w, struct block *b) {
    struct block old = *b;
    size_t size = some(w, 2) ? old.size + 1 + some(w, old.size) : 1 + some(w, old.size);
    if (w->used + size > ROOM)
        size = 1 + some(w, old.size);
    if (JE(xallocx) && old.size > 16384 && some(w, 2)) {
        size_t now = JE(xallocx)(old.memory, size, 0, 0);
        if (now < size)
            size = now;
    } else {
        b->memory = JE(rallocx) && some(w, 2) ? JE(rallocx)(old.memory, size, 0)
                                              : JE(realloc)(old.memory, size);
    }
    if (!b->memory)
        abort();
    old.memory = b->memory;
    check(&old, size < old.size ? size : old.size, "after realloc");
    w->used += size - old.size;
    b->size = size;
    fill(b);
}

static void swap_with_others(struct worker *w, struct block *b) {
    struct block mine = *b;
    pthread_mutex_lock(&lock);
    struct block *slot = &shared[some(w, SHARED)];
    *b = *slot;
    *slot = mine;
    pthread_mutex_unlock(&lock);
    w->used += (b->memory ? b->size : 0) - mine.size;
}

static void operate(struct worker *w, bool alone) {
    struct block *b = &w->held[some(w, HELD)];
    w->operations++;
    if (!b->memory)
        make(w, b);
    else if (some(w, 100) < 35)
        resize(w, b);
    else if (!alone && some(w, 100) < 25)
        swap_with_others(w, b);
    else
        drop(w, b);
    if (some(w, 4000) == 0)  // a phase ends: nearly all is freed at once
        for (int i = 0; i < HELD; i++)
            if (w->held[i].memory && some(w, 16))
                drop(w, &w->held[i]);
}

static void check_all(struct worker *w) {
    for (int i = 0; i < HELD; i++)
        if (w->held[i].memory)
            check(&w->held[i], w->held[i].size, "at rest");
}

static void *work(void *number) {
    struct worker *w = calloc(1, sizeof(*w));
    w->draw = (uint64_t)(uintptr_t)number;
    while (time(NULL) < deadline) {
        for (int i = 0; i < 500; i++)
            operate(w, false);
        check_all(w);
    }
    for (int i = 0; i < HELD; i++)
        if (w->held[i].memory)
            drop(w, &w->held[i]);
    return w;
}

static void control(const char *name) {
    JE(mallctl)(name, NULL, NULL, NULL, 0);
}

// An arena of its own: filled, partly freed, then reset or purged, and destroyed.
static void use_arena(struct worker *w) {
    unsigned arena;
    size_t size = sizeof(arena);
    char name[64];
    struct block held[IN_ARENA];
    if (JE(mallctl)("arenas.create", &arena, &size, NULL, 0))
        abort();
    int flags = (int)((arena + 1) << 20 | 1u << 8);  // MALLOCX_ARENA, MALLOCX_TCACHE_NONE
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < IN_ARENA; i++) {
            held[i] = (struct block){.size = 1 + some(w, 1 << 20), .seed = w->draw};
            held[i].memory = JE(mallocx)(held[i].size, flags);
            fill(&held[i]);
            w->operations++;
        }
        for (int i = 0; i < IN_ARENA; i++)
            check(&held[i], held[i].size, "in an arena");
        snprintf(name, sizeof(name), "arena.%u.%s", arena, round == 1 ? "reset" : "purge");
        for (int i = 0; round != 1 && i < IN_ARENA; i++)
            JE(dallocx)(held[i].memory, flags);
        control(name);
    }
    snprintf(name, sizeof(name), "arena.%u.destroy", arena);
    control(name);
}

// A child inherits the allocator in any state; it works for a moment, and checks what it got.
static void fork_one(struct worker *w) {
    pid_t child = fork();
    if (child == 0) {
        check_all(w);
        for (int i = 0; i < 2000; i++)
            operate(w, true);
        check_all(w);
        _exit(0);
    }
    int status = 1;
    if (child > 0)
        waitpid(child, &status, 0);
    if (status) {
        fprintf(stderr, "a forked child failed: %x\n", status);
        abort();
    }
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    pthread_t threads[64];
    int count = atoi(argv[1]) < 64 ? atoi(argv[1]) : 64;
    const char *purge = getenv("PURGE");
    bool purges = JE(mallctl) && !(purge && !strcmp(purge, "no"));
    deadline = time(NULL) + atoi(argv[2]);
    for (int i = 0; i < count; i++)
        pthread_create(&threads[i], NULL, work, (void *)(uintptr_t)(i + 1));
    struct worker *w = calloc(1, sizeof(*w));
    w->draw = 1000;
    while (time(NULL) < deadline) {
        for (int i = 0; i < 1000; i++)
            operate(w, false);
        if (JE(mallctl))
            use_arena(w);
        fork_one(w);
        if (purges)
            control("arena.4096.purge");  // MALLCTL_ARENAS_ALL
    }
    uint64_t operations = w->operations;
    free(w);
    for (int i = 0; i < count; i++) {
        void *result;
        pthread_join(threads[i], &result);
        operations += ((struct worker *)result)->operations;
        free(result);
    }
    printf("%llu operations\n", (unsigned long long)operations);
    return 0;
}
