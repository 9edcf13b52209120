"""Lies told to the server's processes between them and the kernel: a sync that fails, a wall clock that jumps, and a
call of the event loop that does not return.

A small library, compiled here and loaded before libc (LD_PRELOAD), obeys a file that it shares with the test. The
product knows nothing of it. Only Linux with a C compiler; what PostgreSQL does is not touched.
"""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

CONTROL = struct.Struct("<qiii")
"""Wall clock's offset in ns, how syncs of the journal fail, the number of the block, and how long it is in ms."""
SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { WELL, FAILS, FAILS_AND_TEARS };
struct control { volatile int64_t offset_ns; volatile int32_t sync, block, block_ms; };
static const struct control *control;
static int is_server, blocked;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULTS_CONTROL");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *found = mmap(NULL, 4096, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (found != MAP_FAILED) control = found;
    char words[4096] = "";
    file = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? 0 : read(file, words, sizeof words - 1);
    if (file >= 0) close(file);
    for (ssize_t i = 0; i < length; i += strlen(words + i) + 1) is_server |= !strcmp(words + i, "serve");
    blocked = control ? control->block : 0;  /* those of before are over */
}

static int is_failing(int file) {
    char link[64], path[1024];
    if (!control || control->sync == WELL) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 8 || memcmp(path + length - 8, ".journal", 8)) return 0;
    if (control->sync == FAILS_AND_TEARS) { /* what was not synced may be gone, in part */
        char none[37] = "";
        if (pwrite(file, none, sizeof none, lseek(file, 0, SEEK_CUR) - sizeof none) < 0) return 1;
    }
    return 1;
}

#define REAL(name) static int (*real)(); if (!real) real = (int (*)())dlsym(RTLD_NEXT, name)
int fdatasync(int file) {
    REAL("fdatasync");
    if (is_failing(file)) { errno = EIO; return -1; }
    return real(file);
}
int fsync(int file) {
    REAL("fsync");
    if (is_failing(file)) { errno = EIO; return -1; }
    return real(file);
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    REAL("clock_gettime");
    int code = real(clock, now);
    if (!code && control && control->offset_ns && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t ns = now->tv_sec * 1000000000LL + now->tv_nsec + control->offset_ns;
        now->tv_sec = ns / 1000000000LL;
        now->tv_nsec = ns % 1000000000LL;
    }
    return code;
}
int gettimeofday(struct timeval *now, void *zone) {
    struct timespec found;
    int code = clock_gettime(CLOCK_REALTIME, &found);
    if (!code && now) { now->tv_sec = found.tv_sec; now->tv_usec = found.tv_nsec / 1000; }
    return code;
}
int epoll_pwait(int epoll, struct epoll_event *events, int most, int timeout, const sigset_t *mask) {
    REAL("epoll_pwait");
    if (control && is_server && control->block != blocked && gettid() == getpid()) {
        blocked = control->block;
        usleep(1000 * control->block_ms);
    }
    return real(epoll, events, most, timeout, mask);
}
time_t time(time_t *told) {
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    if (told) *told = found.tv_sec;
    return found.tv_sec;
}
"""
WELL, FAILS, FAILS_AND_TEARS = range(3)


def environment(directory: Path) -> Mapping[str, str]:
    """Compile the library there and return what loads it."""
    source, library = directory / "shim.c", directory / "shim.so"
    source.write_text(SOURCE)
    options = ["-shared", "-fPIC", "-O1", "-std=gnu11", "-w"]
    subprocess.run(["cc", *options, "-o", str(library), str(source), "-ldl"], check=True)
    Control(directory).tell()
    return {"LD_PRELOAD": str(library), "FAULTS_CONTROL": str(_file(directory))}


class Control:
    """What the library is told."""

    def __init__(self, directory: Path) -> None:
        self._path = _file(directory)
        self._blocks = 0

    def tell(self, *, offset_s: float = 0.0, sync: int = WELL, block_s: float = 0.0) -> None:
        """Set all lies at once; without any, the truth is told again. The loop is blocked once, for so long."""
        self._blocks += block_s > 0
        data = CONTROL.pack(int(offset_s * 1e9), sync, self._blocks, int(block_s * 1000)).ljust(4096, b"\0")
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.pwrite(file, data, 0)
        finally:
            os.close(file)


def _file(directory: Path) -> Path:
    return directory / "shim.control"
