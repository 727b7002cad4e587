/* Processes by the hundred: every one sees its own memory, and nothing is lost between them. */
#include "check.h"

#include <spawn.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define AREA 16u

static uint64_t *area; /* AREA pages, private */

static uint64_t pattern(unsigned owner, unsigned index)
{
    return 0x9e3779b97f4a7c15ull * (owner + 1) + index;
}

static void paint(unsigned owner)
{
    for (unsigned i = 0; i < AREA * PAGE / 8; i += 32)
        area[i] = pattern(owner, i);
}

static unsigned wrong(unsigned owner)
{
    unsigned bad = 0;

    for (unsigned i = 0; i < AREA * PAGE / 8; i += 32)
        bad += area[i] != pattern(owner, i);
    return bad;
}

/* ------------------------------------------------------------------ one after the other */

static void repaint(void *arg)
{
    unsigned owner = *(unsigned *)arg;
    unsigned bad = wrong(0);

    paint(owner);
    _exit((bad + wrong(owner)) != 0);
}

static void check_copies(void)
{
    unsigned bad = 0;

    paint(0);
    for (unsigned i = 1; i <= 150; i++) {
        bad += in_child(repaint, &i) != 0;
        bad += wrong(0) != 0;
    }
    equal(bad, 0, "150 children change their copies");
}

/* ------------------------------------------------------------------ many at once, and
 * grandchildren */

static void grandchildren(void *arg)
{
    unsigned owner = *(unsigned *)arg, bad = 0;

    paint(owner);
    for (unsigned i = 0; i < 8; i++) {
        unsigned child = owner * 100 + i;
        pid_t pid = fork();
        int status;

        if (pid == 0) {
            bad += wrong(owner);
            paint(child);
            _exit((bad + wrong(child)) != 0);
        }
        paint(owner); /* while the child does the same */
        bad += wrong(owner);
        bad += waitpid(pid, &status, 0) != pid || status != 0;
    }
    _exit(bad != 0);
}

static void check_storm(void)
{
    enum { AT_ONCE = 12 };
    unsigned bad = 0;

    for (unsigned round = 0; round < 3; round++)
        bad += in_children(AT_ONCE, grandchildren);
    equal(bad, 0, "%d processes with 8 children each, three times", AT_ONCE);
}

/* ------------------------------------------------------------------ shared memory, pipes, exec */

static void check_shared(void)
{
    uint64_t *counter = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t children[4];

    for (unsigned i = 0; i < 4; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            pin(i);
            for (unsigned k = 0; k < 20000; k++)
                __atomic_add_fetch(counter, 1, __ATOMIC_SEQ_CST);
            _exit(0);
        }
    }
    for (unsigned i = 0; i < 4; i++)
        waitpid(children[i], NULL, 0);
    equal(*counter, 80000, "four processes count in shared memory");
    munmap(counter, PAGE);
}

/* A number goes round a ring of processes, each adding one. */
static void check_ring(void)
{
    enum { MEMBERS = 8, ROUNDS = 50 };
    int pipes[MEMBERS + 1][2];
    uint64_t value = 0;

    for (unsigned i = 0; i <= MEMBERS; i++)
        if (pipe(pipes[i]) < 0)
            return;
    for (unsigned i = 0; i < MEMBERS; i++)
        if (fork() == 0) {
            pin(i);
            for (unsigned k = 0; k < ROUNDS; k++) {
                if (read(pipes[i][0], &value, 8) != 8)
                    _exit(1);
                value++;
                if (write(pipes[i + 1][1], &value, 8) != 8)
                    _exit(1);
            }
            _exit(0);
        }
    for (unsigned k = 0; k < ROUNDS; k++)
        if (write(pipes[0][1], &value, 8) != 8 || read(pipes[MEMBERS][0], &value, 8) != 8)
            break;
    for (unsigned i = 0; i < MEMBERS; i++)
        wait(NULL);
    for (unsigned i = 0; i <= MEMBERS; i++) {
        close(pipes[i][0]);
        close(pipes[i][1]);
    }
    equal(value, MEMBERS * ROUNDS, "a number went round a ring of processes");
}

static void check_exec(void)
{
    char *argv[] = {"selfcheck", "--nothing", NULL}, *envp[] = {NULL};
    unsigned bad = 0;

    for (unsigned i = 0; i < 60; i++) {
        pid_t pid;
        int status;

        bad += posix_spawn(&pid, "/proc/self/exe", NULL, NULL, argv, envp) != 0;
        bad += waitpid(pid, &status, 0) != pid || status != 0;
    }
    equal(bad, 0, "60 programs started");
}

void check_fork(void)
{
    area = pages(AREA, PROT_READ | PROT_WRITE);
    check_copies();
    check_storm();
    check_shared();
    check_ring();
    check_exec();
}
