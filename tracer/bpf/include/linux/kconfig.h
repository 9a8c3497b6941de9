// SPDX-License-Identifier: GPL-2.0-only
/* The minimum that bcc's headers need of a kernel tree. Included first. */
#define CONFIG_BPF_SYSCALL 1

#include <linux/types.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s8 s8;
typedef __s16 s16;
typedef __s32 s32;
typedef __s64 s64;
typedef _Bool bool;
typedef unsigned long size_t;
typedef unsigned long uintptr_t;

#define PAGE_SIZE (1UL << PAGE_SHIFT)  // PAGE_SHIFT comes from the loader
#define true 1
#define false 0

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif
