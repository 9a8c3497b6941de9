# SPDX-License-Identifier: GPL-2.0-only
"""The options of jemalloc, and the form of their values.

ptescope copies a setting from the environment of a process into commands that root may
paste only if it is one of these (jemalloc 3 to 5.3, src/jemalloc.c, malloc_conf_init).
"""

import re

__all__ = ("sound",)

_BOOL = "true|false"
_NUMBER = "-?[0-9]{1,20}"
_VALUES = {
    _BOOL: (
        "abort abort_conf background_thread cache_oblivious confirm_conf "
        "disable_large_size_classes experimental_infallible_new hpa prof prof_accum prof_active "
        "prof_final prof_gdump prof_leak prof_leak_error prof_log prof_stats "
        "prof_sys_thread_name prof_thread_active_init prof_unbias purge_threads redzone retain "
        "stats_print tcache trust_madvise utrace valgrind xmalloc zero"
    ),
    _NUMBER: (
        "debug_double_free_max_scan decay_time dirty_decay_ms hpa_hugification_threshold "
        "hpa_hugify_delay_ms hpa_min_purge_interval_ms hpa_sec_batch_fill_extra "
        "hpa_sec_bytes_after_flush hpa_sec_max_alloc hpa_sec_max_bytes hpa_sec_nshards "
        "hpa_slab_max_alloc lg_chunk lg_dirty_mult lg_extent_max_active_fit lg_prof_interval "
        "lg_prof_sample lg_san_uaf_align lg_tcache_flush_large_div lg_tcache_flush_small_div "
        "lg_tcache_gc_sweep lg_tcache_max lg_tcache_nslots_mul max_background_threads "
        "muzzy_decay_ms mutex_max_spin oversize_threshold process_madvise_max_batch "
        "prof_recent_alloc_max quarantine san_guard_large san_guard_small stats_interval "
        "tcache_gc_delay_bytes tcache_gc_incr_bytes tcache_max tcache_nslots_large "
        "tcache_nslots_small_max tcache_nslots_small_min"
    ),
    f"default|{_NUMBER}": "narenas",
    "-1|[0-9]{1,6}([.][0-9]{1,6})?": (
        "hpa_dirty_mult hpa_hugification_threshold_ratio narenas_ratio"
    ),
    f"{_BOOL}|alloc|free": "junk",
    "alloc|free|abort": "zero_realloc",
    "disabled|primary|secondary": "dss",
    "default|always|never": "thp",
    "disabled|auto|always": "metadata_thp",
    "disabled|percpu|phycpu": "percpu_arena",
    "ratio|decay": "purge",
    "default|high": "prof_time_resolution",
    "[A-Za-z]{0,32}": "stats_print_opts stats_interval_opts",
    "[0-9:|-]{1,256}": "bin_shards slab_sizes",
    "[A-Za-z0-9._/+-]{0,256}": "prof_prefix",
}
_PATTERNS = {
    name: re.compile(pattern) for pattern, names in _VALUES.items() for name in names.split()
}


def sound(pair: str) -> bool:
    """Whether `name:value` is an option of jemalloc with a valid value."""
    name, _, value = pair.partition(":")
    pattern = _PATTERNS.get(name)
    return pattern is not None and pattern.fullmatch(value) is not None
