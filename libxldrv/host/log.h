/* The daemon's log: to standard error, or to the journal's priorities under systemd. */
#pragma once

void xldrv_log_init(void);
/* 0: messages and worse; 1: also rare changes of state; 2: everything. Any thread. */
void xldrv_log_set_verbosity(int verbosity);

/* What "long" is. */
#define XLDRV_LOG_BYTES_MAX (2 << 20)

/* Before a log is opened: puts one that has grown long aside, as PATH.old, so that two at most are kept. */
void xldrv_log_rotate(const char *path);
