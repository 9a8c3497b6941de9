// SPDX-License-Identifier: GPL-2.0-only
// Copies pages of kernel memory into a mmapped array: the page reader.
//
// The user side writes the addresses, runs the program once (BPF_PROG_TEST_RUN) and reads the
// pages. The program sets the address of a copied page to 0; the address of an unreadable page
// stays. The last element of `wanted` returns the calling task, from which the user side reaches
// all other structures.

struct page {
    u64 words[PAGE_BYTES / 8];
};

BPF_F_TABLE("array", u32, u64, wanted, BATCH + 1, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct page, pages, BATCH, BPF_F_MMAPABLE);

int on_read_pages(void *ctx) {
    u32 last = BATCH;
    u64 *task = wanted.lookup(&last);
    if (task)
        *task = bpf_get_current_task();
#pragma clang loop unroll(disable)
    for (u32 i = 0; i < BATCH; i++) {
        u32 at = i;
        u64 *address = wanted.lookup(&at);
        struct page *page = pages.lookup(&at);
        if (!address || !page || !*address)
            return 0;
        if (bpf_probe_read_kernel(page, sizeof(*page), (void *)*address) == 0)
            *address = 0;
    }
    return 0;
}
