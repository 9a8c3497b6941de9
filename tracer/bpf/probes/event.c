// SPDX-License-Identifier: GPL-2.0-only
// An event, as `EVENT` in shadow/events.py.

struct event {
    u64 time;
    u64 address;
    u64 length;
    u32 tgid;
    u32 tid;
    u16 kind;
    u16 cpu;
    u32 aux;
};
