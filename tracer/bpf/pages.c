// SPDX-License-Identifier: GPL-2.0-only
// Copies pages of kernel memory into a mmapped array: the page reader.
//
// The user side names the addresses, runs this once (BPF_PROG_TEST_RUN) and finds
// the pages beside them. A page that was copied has its address set to 0; one
// that cannot be read keeps it. The last place of `wanted` answers with the task
// that called, from which everything else can be reached.

struct page {
    u64 words[512];
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
