/* Processes that outlive us: started in a session of their own, known by number and start time. */
#pragma once

#include <glib.h>
#include <sys/types.h>

#include "libxldrv/host/numa.h"

typedef struct {
    pid_t pid;
    guint64 start_time; /* of the process, in clock ticks since boot: field 22 of /proc/PID/stat */
    int pidfd;          /* readable once the process has ended */
} XldrvProcess;

typedef struct {
    const char *const *argv; /* argv[0] is the program's path */
    const int *fds;          /* become descriptors 3, 4, ... of the child; nothing else is inherited */
    guint n_fds;
    const char *log_path;    /* standard output and error are appended here; NULL: /dev/null */
    gboolean confine;        /* as root: with no privilege but to open all files, and none to be gained */
    gboolean may_mount;      /* with confine: by FUSE, in namespaces of its own (namespaces.h); all that it starts ends with it */
    guint64 max_file_bytes;  /* no file that it writes may be larger; 0: no limit */
    const XldrvMemoryPolicy *memory; /* NULL: as ours */
    const char *pid_path;    /* the child writes its /proc/self/stat here before it runs; NULL: nowhere */
} XldrvSpawn;

/* NULL with an error, which names the program, if it could not be started. */
XldrvProcess *xldrv_process_spawn(const XldrvSpawn *spawn, GError **error);
/* Finds a process again. NULL if there is none of that number and start time, or only its zombie. */
XldrvProcess *xldrv_process_find(pid_t pid, guint64 start_time);
/* Finds the process that wrote @pid_path as above. */
XldrvProcess *xldrv_process_find_written(const char *pid_path);
/* If that has ended and is our child, this is the end of its zombie too. */
void xldrv_process_reap_written(const char *pid_path);
/* When process @pid was started, as above; 0 if there is none. */
guint64 xldrv_process_start_time(pid_t pid);
/* What has nothing to bring to its end may take so long. */
#define XLDRV_PROCESS_END_MS 3000
/* Ends what has written @pid_path, which is removed: asks it, and kills it after @ms milliseconds. @what is for the log. */
void xldrv_process_end_written(const char *pid_path, const char *what, guint ms);
void xldrv_process_free(XldrvProcess *process);

gboolean xldrv_process_is_alive(const XldrvProcess *process);
/* Waits for its end and reaps it if it is our child. FALSE if it still runs after @timeout_ms. */
gboolean xldrv_process_wait(const XldrvProcess *process, int timeout_ms);
/* Binds its threads, and all that these start from then on, to CPUs: CPU n is bit n%8 of byte n/8 of @map. Not those
 * whose name begins with @but. */
gboolean xldrv_process_bind_threads(const XldrvProcess *process, const char *but, const GByteArray *map, GError **error);
/* Lets it keep so much memory from being paged out. */
gboolean xldrv_process_allow_locking(const XldrvProcess *process, guint64 bytes, GError **error);
void xldrv_process_kill(const XldrvProcess *process, int signo);

/* The path of program @name of this package: @override, or beside the running executable's build tree at
 * @build_path, or in @install_dir. */
char *xldrv_program_find(const char *override, const char *build_path, const char *install_dir,
                         const char *name, GError **error);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(XldrvProcess, xldrv_process_free)
