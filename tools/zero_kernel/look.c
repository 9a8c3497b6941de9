// SPDX-License-Identifier: GPL-2.0-only
// What a MADV_DONTNEED costs, and the fault after it, by what it leaves in the PTE page.
//
//     look ROUNDS
//
// Prints for each case: pages of the call, the entry that remains (-1: none), and the medians of
// the call and of the next fault in ns. Under QEMU with "-icount shift=0" a ns is an instruction.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

enum { PAGE = 4096, PAGES = 512, SLOT = PAGE * PAGES, MOST = 10000 };

static long now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000L + at.tv_nsec;
}

static int compare(const void *one, const void *other) {
    long a = *(const long *)one, b = *(const long *)other;
    return (a > b) - (a < b);
}

static long median(long *values, int count) {
    qsort(values, count, sizeof(*values), compare);
    return values[count / 2];
}

static void measure(volatile char *slot, int first, int pages, int remains, int rounds) {
    static long calls[MOST], faults[MOST];
    madvise((void *)slot, SLOT, MADV_DONTNEED);
    for (int round = 0; round < rounds; round++) {
        if (remains >= 0)
            slot[remains * PAGE] = 1;
        for (int page = first + 1; page < first + pages; page++)
            slot[page * PAGE] = 1;
        long begin = now();
        slot[first * PAGE] = 1;
        faults[round] = now() - begin;
        begin = now();
        madvise((void *)(slot + first * PAGE), (size_t)pages * PAGE, MADV_DONTNEED);
        calls[round] = now() - begin;
    }
    printf("%d %d %ld %ld\n", pages, remains, median(calls, rounds), median(faults, rounds));
}

int main(int argc, char **argv) {
    int rounds = argc > 1 ? atoi(argv[1]) : 1000;
    if (rounds < 1 || rounds > MOST)
        return 2;
    char *area = mmap(NULL, 2 * SLOT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (area == MAP_FAILED)
        return 1;
    madvise(area, 2 * SLOT, MADV_NOHUGEPAGE);
    char *slot = (char *)(((uintptr_t)area + SLOT - 1) / SLOT * SLOT);
    const int sizes[] = {1, 16, 128};
    for (unsigned size = 0; size < sizeof(sizes) / sizeof(*sizes); size++) {
        measure(slot, 64, sizes[size], 0, rounds);
        measure(slot, 64, sizes[size], 256, rounds);
        measure(slot, 64, sizes[size], 511, rounds);
        measure(slot, 64, sizes[size], -1, rounds);
    }
    measure(slot, 0, PAGES, -1, rounds);
    return 0;
}
