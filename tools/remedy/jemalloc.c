// SPDX-License-Identifier: GPL-2.0-only
// The functions of the jemalloc in use: linked under PTESCOPE_REMEDY_PREFIX, or looked up.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parts.h"

#ifdef PTESCOPE_REMEDY_PREFIX

#define JOINED(a, b) a##b
#define JOIN(a, b) JOINED(a, b)
#define QUOTED(a) #a
#define QUOTE(a) QUOTED(a)
#define NAME(name) JOIN(PTESCOPE_REMEDY_PREFIX, name)

extern int NAME(mallctl)(const char *, void *, size_t *, void *, size_t);
extern int NAME(mallctlnametomib)(const char *, size_t *, size_t *);
extern int NAME(mallctlbymib)(const size_t *, size_t, void *, size_t *, void *, size_t);
extern void *NAME(mallocx)(size_t, int);
extern void NAME(dallocx)(void *, int);
extern const char *NAME(malloc_conf);

bool remedy_find_jemalloc(struct remedy_jemalloc *into) {
    static char variable[64] = QUOTE(PTESCOPE_REMEDY_PREFIX) "MALLOC_CONF";
    for (char *at = variable; *at; at++)
        if (*at >= 'a' && *at <= 'z')
            *at += 'A' - 'a';
    *into = (struct remedy_jemalloc){
        .mallctl = NAME(mallctl),
        .mallctlnametomib = NAME(mallctlnametomib),
        .mallctlbymib = NAME(mallctlbymib),
        .mallocx = NAME(mallocx),
        .dallocx = NAME(dallocx),
        .malloc_conf = &NAME(malloc_conf),
        .conf_variable = variable,
    };
    return true;
}

#else

static const char *const PREFIXES[][2] = {
    {"", "MALLOC_CONF"},
    {"je_", "JE_MALLOC_CONF"},
    {"_rjem_", "_RJEM_MALLOC_CONF"},
};

// The symbol of this name, but not that of this object itself.
static void *found(const char *prefix, const char *name) {
    char whole[64];
    Dl_info its, own;
    snprintf(whole, sizeof(whole), "%s%s", prefix, name);
    void *address = dlsym(RTLD_DEFAULT, whole);
    if (address && dladdr(address, &its) && dladdr(PREFIXES, &own) &&
        its.dli_fbase == own.dli_fbase)
        address = dlsym(RTLD_NEXT, whole);
    return address;
}

static bool found_all(const char *const *prefix, struct remedy_jemalloc *into) {
    into->mallctl = found(prefix[0], "mallctl");
    into->mallctlnametomib = found(prefix[0], "mallctlnametomib");
    into->mallctlbymib = found(prefix[0], "mallctlbymib");
    into->mallocx = found(prefix[0], "mallocx");
    into->dallocx = found(prefix[0], "dallocx");
    into->malloc_conf = found(prefix[0], "malloc_conf");
    into->conf_variable = prefix[1];
    return into->mallctl && into->mallctlnametomib && into->mallctlbymib && into->mallocx &&
           into->dallocx;
}

bool remedy_find_jemalloc(struct remedy_jemalloc *into) {
    for (size_t i = 0; i < sizeof(PREFIXES) / sizeof(*PREFIXES); i++)
        if (found_all(PREFIXES[i], into))
            return true;
    return false;
}

#endif
