// SPDX-License-Identifier: GPL-2.0-only
// Empty programs on the tracepoints of ptescope, to measure the cost of the hooks alone.

int on_page_fault_user(struct bpf_raw_tracepoint_args *ctx) { return 0; }
int on_sys_enter(struct bpf_raw_tracepoint_args *ctx) { return 0; }
int on_sys_exit(struct bpf_raw_tracepoint_args *ctx) { return 0; }
