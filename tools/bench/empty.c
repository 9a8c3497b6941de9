// SPDX-License-Identifier: GPL-2.0-only
// Nothing, on the tracepoints of ptescope: what the hooks alone cost.

int on_page_fault_user(struct bpf_raw_tracepoint_args *ctx) { return 0; }
int on_sys_enter(struct bpf_raw_tracepoint_args *ctx) { return 0; }
int on_sys_exit(struct bpf_raw_tracepoint_args *ctx) { return 0; }
