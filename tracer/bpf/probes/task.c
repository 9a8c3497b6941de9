// SPDX-License-Identifier: GPL-2.0-only
// The current thread, as its task_struct and its user-mode registers show it.

#include <asm/mman.h>

#define NO_EVENT 0
#define MAX_THREADS 8192  // threads of traced processes in one kind of function at a time

#define PAGE (1ULL << PAGE_SHIFT)

static __always_inline u64 page_up(u64 length) { return (length + PAGE - 1) & -PAGE; }

static __always_inline u64 field(u64 base, u32 offset) {
    u64 value = 0;
    bpf_probe_read_kernel(&value, sizeof(value), (void *)(base + offset));
    return value;
}

static __always_inline u64 current_mm(void) { return field(bpf_get_current_task(), TASK_MM); }

// Both exist since v5.15, for programs at tracepoints and kprobes as well.
static void *(*current_task_btf)(void) = (void *)158;
static u64 (*task_pt_regs)(void *task) = (void *)175;

// The user-mode registers of the current thread.
static __always_inline u64 user_regs(void) { return task_pt_regs(current_task_btf()); }

// The number of the current system call.
static __always_inline u64 user_call(void) {
    return call_number(user_regs());
}

// Whether the call is a 32-bit one, with other numbers.
static __always_inline bool in_compat_call(void) {
    return IS_COMPAT(field(bpf_get_current_task(), COMPAT_WORD));
}
