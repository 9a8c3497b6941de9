// SPDX-License-Identifier: GPL-2.0-only
// The functions of the jemalloc in use: linked under PTESCOPE_REMEDY_PREFIX, or looked up.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parts.h"

// The environment variable with the settings of a jemalloc: its prefix in capitals comes first.
static void name_variable(const char *prefix, struct remedy_jemalloc *into) {
    snprintf(into->conf_variable, sizeof(into->conf_variable), "%sMALLOC_CONF", prefix);
    for (char *at = into->conf_variable; *at; at++)
        if (*at >= 'a' && *at <= 'z')
            *at += 'A' - 'a';
}

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
    *into = (struct remedy_jemalloc){
        .mallctl = NAME(mallctl),
        .mallctlnametomib = NAME(mallctlnametomib),
        .mallctlbymib = NAME(mallctlbymib),
        .mallocx = NAME(mallocx),
        .dallocx = NAME(dallocx),
        .malloc_conf = &NAME(malloc_conf),
    };
    name_variable(QUOTE(PTESCOPE_REMEDY_PREFIX), into);
    return true;
}

#else

// The symbol of this name, but not that of this object itself.
static void *found(void *handle, const char *prefix, const char *name) {
    char whole[64];
    Dl_info its, own;
    snprintf(whole, sizeof(whole), "%s%s", prefix, name);
    void *address = dlsym(handle, whole);
    if (address && dladdr(address, &its) && dladdr((void *)(uintptr_t)found, &own) &&
        its.dli_fbase == own.dli_fbase)
        address = dlsym(RTLD_NEXT, whole);
    return address;
}

bool remedy_find_jemalloc_in(void *handle, const char *prefix, struct remedy_jemalloc *into) {
    *into = (struct remedy_jemalloc){
        .mallctl = found(handle, prefix, "mallctl"),
        .mallctlnametomib = found(handle, prefix, "mallctlnametomib"),
        .mallctlbymib = found(handle, prefix, "mallctlbymib"),
        .mallocx = found(handle, prefix, "mallocx"),
        .dallocx = found(handle, prefix, "dallocx"),
        .malloc_conf = found(handle, prefix, "malloc_conf"),
    };
    name_variable(prefix, into);
    return into->mallctl && into->mallctlnametomib && into->mallctlbymib && into->mallocx &&
           into->dallocx;
}

bool remedy_find_jemalloc(struct remedy_jemalloc *into) {
    static const char *const prefixes[] = {"", "je_", "_rjem_"};
    for (size_t i = 0; i < sizeof(prefixes) / sizeof(*prefixes); i++)
        if (remedy_find_jemalloc_in(RTLD_DEFAULT, prefixes[i], into))
            return true;
    return false;
}

#endif
