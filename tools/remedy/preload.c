// SPDX-License-Identifier: GPL-2.0-only
// What makes the preloaded object hook arenas that come later: new threads, and the calls by which
// a program makes an arena itself. Leave this file out to link the remedy in.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <threads.h>

#include "parts.h"

#define SHOWN __attribute__((visibility("default")))

__attribute__((constructor)) static void start(void) {
    ptescope_remedy_start();
}

enum ptescope_remedy_state ptescope_remedy_start_in(void *handle, const char *prefix) {
    struct remedy_jemalloc found;
    if (!remedy_find_jemalloc_in(handle, prefix, &found))
        return PTESCOPE_REMEDY_UNUSED;
    return remedy_start_with(&found);
}

struct beginning {
    void *(*posix)(void *);
    int (*c11)(void *);
    void *argument;
};

static struct beginning taken(void *packed) {
    struct beginning beginning = *(struct beginning *)packed;
    free(packed);
    ptescope_remedy_thread();
    return beginning;
}

static void *begin_posix(void *packed) {
    struct beginning beginning = taken(packed);
    return beginning.posix(beginning.argument);
}

static int begin_c11(void *packed) {
    struct beginning beginning = taken(packed);
    return beginning.c11(beginning.argument);
}

static struct beginning *packed(struct beginning beginning) {
    struct beginning *copy = malloc(sizeof(*copy));
    if (copy)
        *copy = beginning;
    return copy;
}

SHOWN int pthread_create(pthread_t *restrict thread, const pthread_attr_t *restrict attributes,
                         void *(*routine)(void *), void *restrict argument) {
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (!real)
        real = dlsym(RTLD_NEXT, "pthread_create");
    if (!remedy_hooks_arenas())
        return real(thread, attributes, routine, argument);
    struct beginning *beginning = packed((struct beginning){.posix = routine, .argument = argument});
    if (!beginning)
        return EAGAIN;
    int failed = real(thread, attributes, begin_posix, beginning);
    if (failed)
        free(beginning);
    return failed;
}

SHOWN int thrd_create(thrd_t *thread, thrd_start_t routine, void *argument) {
    static int (*real)(thrd_t *, thrd_start_t, void *);
    if (!real)
        real = dlsym(RTLD_NEXT, "thrd_create");
    if (!remedy_hooks_arenas())
        return real(thread, routine, argument);
    struct beginning *beginning = packed((struct beginning){.c11 = routine, .argument = argument});
    if (!beginning)
        return thrd_nomem;
    int failed = real(thread, begin_c11, beginning);
    if (failed != thrd_success)
        free(beginning);
    return failed;
}

// "arenas.create" makes an arena; writing to "thread.arena" may.
static void hook_made(bool create, bool thread, const void *old) {
    if (create && old)
        remedy_hook_arena(*(const unsigned *)old);
    else if (create)
        ptescope_remedy_refresh();
    else if (thread)
        ptescope_remedy_thread();
}

SHOWN int mallctl(const char *name, void *old, size_t *old_size, void *new, size_t new_size) {
    static int (*real)(const char *, void *, size_t *, void *, size_t);
    if (!real)
        real = dlsym(RTLD_NEXT, "mallctl");
    if (!real)
        return ENOENT;
    int failed = real(name, old, old_size, new, new_size);
    if (!failed && remedy_hooks_arenas())
        hook_made(!strcmp(name, "arenas.create"), new && !strcmp(name, "thread.arena"), old);
    return failed;
}

static struct {
    size_t create[2], thread[2];
} mibs;

static bool read_mibs(void) {
    static atomic_bool read;
    int (*translate)(const char *, size_t *, size_t *);
    if (read)
        return true;
    translate = dlsym(RTLD_NEXT, "mallctlnametomib");
    size_t two = 2;
    read = translate && !translate("arenas.create", mibs.create, &two) &&
           !translate("thread.arena", mibs.thread, &two);
    return read;
}

SHOWN int mallctlbymib(const size_t *mib, size_t length, void *old, size_t *old_size, void *new,
                       size_t new_size) {
    static int (*real)(const size_t *, size_t, void *, size_t *, void *, size_t);
    if (!real)
        real = dlsym(RTLD_NEXT, "mallctlbymib");
    if (!real)
        return ENOENT;
    int failed = real(mib, length, old, old_size, new, new_size);
    if (!failed && length == 2 && remedy_hooks_arenas() && read_mibs())
        hook_made(!memcmp(mib, mibs.create, sizeof(mibs.create)),
                  new && !memcmp(mib, mibs.thread, sizeof(mibs.thread)), old);
    return failed;
}
